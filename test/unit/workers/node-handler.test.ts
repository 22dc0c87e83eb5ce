/** What a user's Node function may be and may return. */
import { describe, expect, it } from 'vitest';
import type { FunctionSpec } from '../../../shared/domain/function.ts';
import { type Finished, nodeSpec, Rig, type RigOptions, type SpecChanges } from './rig.ts';

const runOne = async (
  body: string,
  texts: readonly string[],
  changes: SpecChanges = {},
  options: RigOptions = {},
): Promise<Finished> => {
  const rig = await Rig.open(options);
  return rig.run(await rig.deploy(nodeSpec(body, changes)), texts);
};

const ok = (values: readonly unknown[]): Finished => ({ status: 'completed', values, errors: new Map() });
const float: FunctionSpec['output'] = { type: 'float64', nullable: false };

describe('a Node function', () => {
  it('answers rows in order, over many batches', async () => {
    const texts = Array.from({ length: 50 }, (_, at) => `row ${at}`);
    const answer = await runOne('export const run = ({ text }) => text.map((t) => t.toUpperCase())', texts);
    expect(answer).toEqual(ok(texts.map((text) => text.toUpperCase())));
  });

  it('may be asynchronous', async () => {
    const body = 'export const run = async ({ text }) => { await null; return text.map((t) => t.length); }';
    expect(await runOne(body, ['a', 'bb'], { output: float })).toEqual(ok([1, 2]));
  });

  it('may take one row at a time', async () => {
    const body = 'export const run = async ({ text }) => text + "!"';
    expect(await runOne(body, ['a', 'b'], { inputMode: 'row' })).toEqual(ok(['a!', 'b!']));
  });

  it('may yield consecutive parts', async () => {
    const body = 'export async function* run({ text }) { yield text.slice(0, 3); yield text.slice(3); }';
    const texts = ['a', 'b', 'c', 'd', 'e'];
    expect(await runOne(body, texts)).toEqual(ok(texts));
  });

  it('may be TypeScript that the SDK declares', async () => {
    const body = `
      import { defineFunction, t } from '@sluice/sdk';
      let started: string = 'no';
      export const run = defineFunction(
        { name: 'f', inputs: { text: t.string }, output: t.string, onStartup: () => { started = 'yes'; } },
        ({ text }) => text.map((value: string) => value + ' ' + started),
      );`;
    const handler = { file: 'f.ts', attribute: 'run' };
    expect(await runOne(body, ['a'], { handler })).toEqual(ok(['a yes']));
  });

  it('sees its calls when it asks for the context', async () => {
    const body =
      'export const run = ({ text }, { calls, attempt, function: name }) => text.map(() => JSON.stringify([name, attempt, calls.length, calls[0].rows, calls[0].metadata, calls[0].callId[0]]))';
    const { values } = await runOne(body, ['a', 'b']);
    expect(JSON.parse(values[0] as string)).toEqual(['f', 1, 1, 2, { from: 'rig' }, 'c']);
  });

  it('gets a clean environment and its own folder', async () => {
    const body =
      'export const run = ({ text }) => text.map(() => JSON.stringify([Object.keys(process.env).sort(), process.env.MINE, process.cwd()]))';
    const env = { base: null, steps: [], env: { MINE: 'yes' }, isolated: false, interpreter: null };
    process.env.SLUICE_API_KEY = 'secret';
    const { values } = await runOne(body, ['a'], { environment: env });
    delete process.env.SLUICE_API_KEY;
    const [names, mine, cwd] = JSON.parse(values[0] as string) as [string[], string, string];
    expect(mine).toBe('yes');
    expect(names.filter((name) => /SLUICE|VITEST|npm_/.test(name))).toEqual([]);
    expect(cwd).toMatch(/sluice-.*\/f-[0-9a-f]{12}-\w{6}$/);
  });
});

describe('rows that a Node function refuses', () => {
  const mark = `class RowError extends Error { get [Symbol.for('sluice.rowError')]() { return true; } kind = 'Bad'; }`;

  it('fail alone when returned in their place', async () => {
    const body = `${mark} export const run = ({ text }) => text.map((t) => (t === 'bad' ? new RowError('no ' + t) : t))`;
    const { status, values, errors } = await runOne(body, ['a', 'bad', 'c'], {
      output: { type: 'utf8', nullable: false },
    });
    expect([status, values]).toEqual(['failed', ['a', null, 'c']]);
    expect([...errors]).toEqual([[1, { code: 'row_error', message: 'no bad', kind: 'Bad' }]]);
  });

  it('fail alone when thrown in row mode', async () => {
    const body = `${mark} export const run = ({ text }) => { if (text === 'bad') throw new RowError('no'); return text; }`;
    const { values, errors } = await runOne(body, ['bad', 'b'], { inputMode: 'row' });
    expect(values).toEqual([null, 'b']);
    expect(errors.get(0)).toMatchObject({ code: 'row_error' });
  });

  it('keep their place across the parts of a generator', async () => {
    const body = `${mark} export function* run({ text }) { yield text.slice(0, 2); yield [new RowError('third'), text[3]]; }`;
    const { values, errors } = await runOne(body, ['a', 'b', 'c', 'd']);
    expect(values).toEqual(['a', 'b', null, 'd']);
    expect([...errors.keys()]).toEqual([2]);
  });
});

describe('a generator that fails on its way', () => {
  const parts = `export function* run({ text }) {
      for (const t of text) {
        if (t === 'bad') throw new Error('after ' + text.join(''));
        if (t === 'die') process.abort();
        if (t === 'hang') for (;;);
        yield [t + '@' + text.join('')];
      }
    }`;

  it('keeps what it had yielded, and runs only the rest again', async () => {
    const { status, values, errors } = await runOne(parts, ['a', 'b', 'bad', 'd', 'e']);
    expect(status).toBe('failed');
    // The first two rows ran once, with their whole batch; the rest was bisected.
    expect(values).toEqual(['a@abbadde', 'b@abbadde', null, 'd@d', 'e@e']);
    expect([...errors]).toEqual([
      [2, expect.objectContaining({ code: 'handler_error', message: 'after bad' })],
    ]);
  });

  it('keeps it also when it kills its process, or hangs', async () => {
    const died = await runOne(parts, ['a', 'die', 'c'], {}, { claimsMax: 0 });
    expect([died.values, died.errors.get(1)?.code]).toEqual([['a@adiec', null, 'c@c'], 'row_quarantined']);
    const hung = await runOne(parts, ['a', 'hang', 'c'], { callTimeoutMs: 2000 });
    expect([hung.values, hung.errors.get(1)?.code]).toEqual([['a@ahangc', null, 'c@c'], 'call_timeout']);
  });

  it('keeps nothing when its answer is wrong', async () => {
    const body = 'export function* run({ text }) { yield [text[0]]; yield text.slice(2); }';
    const { values, errors } = await runOne(body, ['a', 'b', 'c'], { isolation: 'off' });
    expect(values).toEqual([null, null, null]);
    expect(errors.get(0)?.message).toMatch(/got 3 rows and returned 2/);
  });
});

describe('an answer of a Node function that is wrong', () => {
  it.each([
    ['another length', 'text.slice(1)', /got 4 rows and returned 3/],
    ['another type', 'text.map(() => 7)', /row 0/],
    ['no array', '"nothing"', /returned string/],
  ])('is refused: %s', async (_, expression, message) => {
    const body = `export const run = ({ text }) => ${expression}`;
    const { status, values, errors } = await runOne(body, ['a', 'b', 'c', 'd'], { isolation: 'off' });
    expect([status, values]).toEqual(['failed', [null, null, null, null]]);
    expect(errors.get(3)?.code).toBe('handler_output_invalid');
    expect(errors.get(3)?.message).toMatch(message);
  });

  it('is refused when a generator yields too much', async () => {
    const body = 'export function* run({ text }) { yield text; yield text; }';
    const { errors } = await runOne(body, ['a', 'b'], { isolation: 'off' });
    expect(errors.get(0)).toMatchObject({ code: 'handler_output_invalid' });
    expect(errors.get(0)?.message).toMatch(/got 2 rows and returned 4/);
  });

  it('costs only the rows that cause it', async () => {
    const body = 'export const run = ({ text }) => text.filter((t) => t !== "bad")';
    const { values, errors } = await runOne(body, ['a', 'b', 'bad', 'd', 'e']);
    expect(values).toEqual(['a', 'b', null, 'd', 'e']);
    expect([...errors.keys()]).toEqual([2]);
  });
});
