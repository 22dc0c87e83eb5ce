/** Handlers that crash, hang, flood, eat memory or cannot start hurt their own batch only. */
import { describe, expect, it } from 'vitest';
import { eventually } from '../../support/sluice-process.ts';
import { type Finished, nodeSpec, Rig } from './rig.ts';

/** Kills its own process in a way that no JavaScript can catch. */
const SEGFAULT = "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => {});";
const retry = { retries: 1, initialMs: 1, multiplier: 1, maxMs: 1, jitter: 0, retryOn: [], terminalOn: [] };

describe('a handler that crashes', () => {
  it('costs claims, is isolated row by row, and only the guilty row is quarantined', async () => {
    const rig = await Rig.open({ claimsMax: 1 });
    const record = await rig.deploy(
      nodeSpec(
        `export const run = async ({ text }) => { if (text.includes('kill')) { ${SEGFAULT} } return text; }`,
      ),
    );
    const { status, values, errors } = await rig.run(record, ['a', 'kill', 'c']);
    expect([status, values]).toEqual(['failed', ['a', null, 'c']]);
    expect(errors.get(1)).toMatchObject({ code: 'row_quarantined' });
    expect(errors.get(1)?.message).toMatch(/SIGSEGV/);
    expect((await rig.run(record, ['later'])).values).toEqual(['later']);
  });

  it('is told apart from a handler that leaves', async () => {
    const rig = await Rig.open({ claimsMax: 0 });
    const record = await rig.deploy(
      nodeSpec('export const run = () => process.exit(7)', { isolation: 'off' }),
    );
    const { errors } = await rig.run(record, ['a']);
    expect(errors.get(0)).toMatchObject({ code: 'handler_crashed' });
    expect(errors.get(0)?.message).toMatch(/left with code 7/);
  });
});

describe('a handler that raises', () => {
  it('fails the guilty rows after its retries, with the exception', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(
      nodeSpec(
        `export const run = ({ text }, { attempt }) => {
          if (text.includes('bad')) throw new RangeError('attempt ' + attempt);
          return text; }`,
        { retry },
      ),
    );
    const { values, errors } = await rig.run(record, ['a', 'b', 'bad', 'd']);
    expect(values).toEqual(['a', 'b', null, 'd']);
    // One run and one retry of four rows, then two rows, then the row alone.
    expect(errors.get(2)).toMatchObject({ code: 'handler_error', kind: 'RangeError', message: 'attempt 4' });
    expect(errors.get(2)?.traceback).toMatch(/f\.mjs/);
  });
});

describe('a handler that hangs', () => {
  it('is stopped at the call timeout, and its neighbours go on', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(
      nodeSpec(`export const run = ({ text }) => { while (text.includes('hang')); return text; }`, {
        callTimeoutMs: 1500,
      }),
    );
    const { values, errors } = await rig.run(record, ['a', 'hang']);
    expect(values).toEqual(['a', null]);
    expect(errors.get(1)).toMatchObject({ code: 'call_timeout' });
    expect(errors.get(1)?.message).toMatch(/1500 ms/);
  });
});

describe('a handler that floods its output', () => {
  it('neither stalls nor fills memory, and says what was left out', async () => {
    // A gigabyte in the long run.
    const bytes = process.env.SLUICE_TEST_LONG === undefined ? 100e6 : 1e9;
    const rig = await Rig.open();
    const record = await rig.deploy(
      nodeSpec(
        `import { writeSync } from 'node:fs';
        const line = Buffer.from('x'.repeat(99) + '\\n');
        const block = Buffer.concat(Array.from({ length: 1000 }, () => line));
        const print = (left) => { while (left > 0) { try { left -= writeSync(1, block); } catch (error) { if (error.code !== 'EAGAIN') throw error; } } };
        export const run = ({ text }) => { print(${bytes}); return text; }`,
      ),
    );
    const before = process.memoryUsage.rss();
    const left = new Map<string, number>();
    // The log keeps the last lines alone, which are those of a few seconds.
    const read = async (): Promise<void> => {
      for (const { at, text } of await rig.store.registry.logs({ name: 'f', limit: 1000 })) {
        const count = /(\d+) bytes of output were left out/.exec(text)?.[1];
        if (count !== undefined) left.set(`${at} ${text}`, Number(count));
      }
    };
    let finished: Finished | null = null;
    const running = rig.run(record, ['a']).then((end) => {
      finished = end;
    });
    await eventually('the flood is over', () => read().then(() => finished !== null), 300_000);
    await running;
    expect(finished!.values).toEqual(['a']);
    expect(process.memoryUsage.rss() - before).toBeLessThan(200e6);
    await rig.workers.stop();
    await read();
    const bytesLeft = [...left.values()].reduce((sum, count) => sum + count, 0);
    expect(bytesLeft).toBeGreaterThan(bytes * 0.9);
    // The last block is written whole.
    expect(bytesLeft).toBeLessThan(bytes + 100_000);
  });
});

describe('a handler that eats memory', () => {
  it('is stopped over its limit, and its batch says so', async () => {
    const rig = await Rig.open({ claimsMax: 0 });
    const record = await rig.deploy(
      nodeSpec(
        `const held = []; export const run = async ({ text }) => { held.push(Buffer.alloc(300e6, 1)); await new Promise(() => {}); }`,
        { isolation: 'off', resources: { cpu: null, memoryBytes: 200 * 2 ** 20, gpu: null } },
      ),
    );
    const { errors } = await rig.run(record, ['a']);
    expect(errors.get(0)).toMatchObject({ code: 'handler_crashed' });
    expect(errors.get(0)?.message).toMatch(/used \d+ MiB of memory=200 MiB/);
  });
});

describe('a handler that cannot start', () => {
  it.each([
    ['an import that fails', "import 'no-such-package'; export const run = 1;", /no-such-package/],
    ['a module that throws', "throw new Error('no licence');", /no licence/],
    ['a missing export', 'export const other = () => 1;', /exports other; "run" is not a function/],
    ['a module that exits', 'console.error("goodbye"); process.exit(3);', /left with code 3\ngoodbye/],
  ])('says why in its status: %s', async (_, body, reason) => {
    const rig = await Rig.open();
    const record = await rig.deploy(nodeSpec(body));
    const report = await rig.report(record, ({ failed }) => failed > 0);
    expect(report.reason).toMatch(reason);
    expect(report.ready).toBe(0);
  });

  it('is not started where its options cannot be honoured and the server is strict', async () => {
    const rig = await Rig.open({ strict: true });
    const environment = {
      base: null,
      steps: [{ apt_install: ['ffmpeg'] }],
      env: {},
      isolated: false,
      interpreter: null,
    };
    const record = await rig.deploy(nodeSpec('export const run = ({ text }) => text;', { environment }));
    const report = await rig.report(record, ({ reason }) => reason !== null);
    expect(report).toMatchObject({ ready: 0, starting: 0, ignored: ['apt_install ffmpeg'] });
    expect(report.reason).toMatch(/refuses what it cannot honour: apt_install ffmpeg/);
  });

  it('runs without them where the server is not', async () => {
    const rig = await Rig.open();
    const resources = { cpu: null, memoryBytes: null, gpu: 'nvidia-none' };
    const record = await rig.deploy(nodeSpec('export const run = ({ text }) => text;', { resources }));
    expect((await rig.run(record, ['a'])).values).toEqual(['a']);
    const report = await rig.report(record, ({ ready }) => ready === 1);
    expect(report.ignored).toEqual(['gpu="nvidia-none": this machine has no NVIDIA device']);
  });
});
