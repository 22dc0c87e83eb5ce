/** What an engine may do with a batch, through the whole queue: each is an attempt, an error of the row, or a crash, and no more. */
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Rig } from '../rig.ts';
import { engineSpec, type SpecChanges, wayward } from './engine-spec.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };

const opened = async (changes: SpecChanges = {}) => {
  const rig = await Rig.open();
  const record = await rig.deploy(engineSpec(wayward(path.join(rig.directory, 'state')), changes));
  return { rig, record };
};

describe('an engine', () => {
  it('gets a batch as one request and answers its rows in order', async () => {
    const { rig, record } = await opened();
    const { status, values } = await rig.run(record, ['a', 'b', 'c']);
    expect(status).toBe('completed');
    expect(values).toEqual(['a in 3', 'b in 3', 'c in 3']);
  });

  it('may answer anything where a model declares no outputs', async () => {
    const { rig, record } = await opened({ inputs: null, output: { type: 'json', nullable: true } });
    expect((await rig.run(record, ['wrong'])).values).toEqual([{ a: 1, b: 2 }]);
    expect((await rig.run(record, ['a'])).values).toEqual(['a in 1']);
  });

  it('is told its port, its model and its task under both names, and nothing of ours', async () => {
    process.env.SLUICE_TEST_SECRET = 'x';
    const { rig, record } = await opened({
      environment: { base: null, steps: [], env: { A: '1' }, isolated: false, interpreter: null },
    });
    delete process.env.SLUICE_TEST_SECRET;
    const { values } = await rig.run(record, ['env']);
    const env = JSON.parse(values[0] as string);
    expect(env).toMatchObject({
      A: '1',
      PORT: env.SLUICE_PORT,
      SLUICE_MODEL_ID: 'house',
      CHARIOT_MODEL_ID: 'house',
      SLUICE_TASK_TYPE: 'Tabular',
      CHARIOT_TASK_TYPE: 'Tabular',
      SLUICE_MODEL_PATH: env.cwd,
      CHARIOT_MODEL_PATH: env.cwd,
    });
    expect(Number(env.PORT)).toBeGreaterThan(1024);
    expect(Object.keys(env)).not.toContain('SLUICE_TEST_SECRET');
  });

  it.each([
    ['broken', 'handler_error', 'HTTP 500', /answered 500 to POST \/infer: the model fell over/],
    ['bad', 'handler_error', 'HTTP 422', /"is bad"/],
    [
      'moved',
      'handler_error',
      'HTTP 307',
      /a redirect to http:\/\/127.0.0.1:1\/infer, which is not followed/,
    ],
    ['failed', 'handler_error', 'EngineError', /answered 200 with an error: out of memory/],
    ['short', 'handler_output_invalid', undefined, /got 1 rows and returned 0/],
    ['long', 'handler_output_invalid', undefined, /got 1 rows and returned 2/],
    ['garbled', 'handler_output_invalid', 'WrongAnswer', /not valid JSON/],
    ['nan', 'handler_output_invalid', 'WrongAnswer', /JSON has no NaN and no Infinity/],
    ['wrong', 'handler_output_invalid', 'WrongAnswer', /column "result", row 0/],
    ['odd', 'handler_output_invalid', 'WrongAnswer', /it has the members answer/],
    ['endless', 'handler_output_invalid', 'WrongReply', /larger than 268435456 bytes/],
    ['cut', 'handler_error', 'ConnectionBroken', /connection to the engine broke/],
  ])('that is %s fails its rows alone', async (text, code, kind, message) => {
    const { rig, record } = await opened();
    const { values, errors } = await rig.run(record, ['a', text, 'c']);
    expect(values.map((value) => value !== null)).toEqual([true, false, true]);
    expect([...errors]).toMatchObject([[1, { code, message: expect.stringMatching(message) }]]);
    expect(errors.get(1)?.kind).toBe(kind);
    const { replicas } = await rig.report(record, ({ ready }) => ready === 1);
    expect(replicas?.[0]?.restarts).toBe(0);
  });

  it('that is busy is asked again, at the cost of an attempt', async () => {
    const retry = {
      retries: 1,
      initialMs: 1,
      multiplier: 1,
      maxMs: 1,
      jitter: 0,
      retryOn: [],
      terminalOn: [],
    };
    const { rig, record } = await opened({ retry });
    const { values } = await rig.run(record, ['busy']);
    expect(values).toEqual(['after 1 refusals']);
  });

  it('that dies is started again, and the row that kills it is found', async () => {
    const rig = await Rig.open({ claimsMax: 0 });
    const record = await rig.deploy(engineSpec(wayward(path.join(rig.directory, 'state'))));
    const { values, errors } = await rig.run(record, ['a', 'die', 'c']);
    expect(values).toEqual(['a in 1', null, 'c in 1']);
    expect(errors.get(1)).toMatchObject({
      code: 'row_quarantined',
      message: expect.stringMatching(/the engine ended: it died of SIGKILL/),
    });
  });

  it('that hangs is ended with the call timeout, while another engine goes on', async () => {
    const { rig, record } = await opened({ callTimeoutMs: 300, batching: single });
    const other = await rig.deploy(
      engineSpec(wayward(path.join(rig.directory, 'other')), { name: 'other', batching: single }),
    );
    const hung = await rig.submit(record, ['hung', 'next']);
    expect((await rig.run(other, ['x'])).status).toBe('completed');
    const { values, errors } = await rig.finished(hung);
    expect(errors.get(0)).toMatchObject({ code: 'call_timeout' });
    expect(values).toEqual([null, 'next in 1']);
  });
});
