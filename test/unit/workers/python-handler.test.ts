/** Python functions, from source text to settled rows, through the real package and interpreter. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { FunctionSpec } from '../../../shared/domain/function.ts';
import { type Finished, Gate, nodeSpec, Rig, type RigOptions, type SpecChanges } from './rig.ts';

const VENV = path.resolve(import.meta.dirname, '../../../.venv/bin/python');
const pythonDefault = existsSync(VENV) ? VENV : 'python3';

/** A Python function of one utf8 column; `body` is the module's text, which has the function `run`. */
const pythonSpec = (body: string, changes: SpecChanges = {}): FunctionSpec =>
  nodeSpec(body, { runtime: 'python', handler: { file: 'f.py', attribute: 'run' }, ...changes });

const declared = (lines: string, header = ''): string =>
  `import sluice\n${header}\n@sluice.function(name="f")\ndef run(text: list[str]) -> list[str]:\n${lines
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n')}\n`;

const runOne = async (
  body: string,
  texts: readonly string[],
  changes: SpecChanges = {},
  options: RigOptions = {},
): Promise<Finished> => {
  const rig = await Rig.open({ pythonDefault, ...options });
  return rig.run(await rig.deploy(pythonSpec(body, changes)), texts);
};

const ok = (values: readonly unknown[]): Finished => ({ status: 'completed', values, errors: new Map() });

describe('a Python function', () => {
  it('answers rows in order, over many batches', async () => {
    const texts = Array.from({ length: 50 }, (_, at) => `row ${at}`);
    const answer = await runOne(declared('return [t.upper() for t in text]'), texts);
    expect(answer).toEqual(ok(texts.map((text) => text.toUpperCase())));
  });

  it('may refuse single rows', async () => {
    const body = declared('return [sluice.RowError("no " + t) if t == "bad" else t for t in text]');
    const { values, errors } = await runOne(body, ['a', 'bad', 'c']);
    expect(values).toEqual(['a', null, 'c']);
    expect(errors.get(1)).toMatchObject({ code: 'row_error', message: 'no bad' });
  });

  it('may be a generator', async () => {
    const body = `import sluice
from collections.abc import Iterator

@sluice.function(name="f")
def run(text: list[str]) -> Iterator[list[str]]:
    yield text[:3]
    yield text[3:]
`;
    const texts = ['a', 'b', 'c', 'd', 'e'];
    expect(await runOne(body, texts)).toEqual(ok(texts));
  });

  it('keeps what it yielded before it failed', async () => {
    const body = `import sluice
from collections.abc import Iterator

@sluice.function(name="f")
def run(text: list[str]) -> Iterator[list[str]]:
    for t in text:
        if t == "bad":
            raise ValueError("bad row")
        yield [t + "@" + "".join(text)]
`;
    const { values, errors } = await runOne(body, ['a', 'b', 'bad', 'd']);
    expect(values).toEqual(['a@abbadd', 'b@abbadd', null, 'd@d']);
    expect([...errors.keys()]).toEqual([2]);
  });

  it('fails the guilty row alone, with its exception', async () => {
    const body = declared('if "bad" in text: raise ValueError("bad row")\nreturn text');
    const { values, errors } = await runOne(body, ['a', 'b', 'bad', 'd']);
    expect(values).toEqual(['a', 'b', null, 'd']);
    expect(errors.get(2)).toMatchObject({ code: 'handler_error', kind: 'ValueError', message: 'bad row' });
    expect(errors.get(2)?.traceback).toMatch(/f\.py/);
  });

  it.each([
    ['another length', 'return text[1:]', /2 rows?.*1|1.*2/],
    ['another type', 'return [1.5 for _ in text]', /./],
  ])('is refused when it returns %s', async (_, lines, message) => {
    const { errors } = await runOne(declared(lines), ['a', 'b'], { isolation: 'off' });
    expect(errors.get(0)).toMatchObject({ code: 'handler_output_invalid' });
    expect(errors.get(0)?.message).toMatch(message);
  });

  it('that segfaults is isolated, and its neighbours go on', async () => {
    const body = declared(
      'if "kill" in text: os.kill(os.getpid(), signal.SIGSEGV)\nreturn text',
      'import os, signal',
    );
    const { values, errors } = await runOne(body, ['a', 'kill'], {}, { claimsMax: 0 });
    expect(values).toEqual(['a', null]);
    expect(errors.get(1)).toMatchObject({ code: 'row_quarantined' });
  });

  it('that hangs is stopped at the call timeout', async () => {
    const body = declared('while "hang" in text: pass\nreturn text');
    const { values, errors } = await runOne(body, ['a', 'hang'], { callTimeoutMs: 2000 });
    expect(values).toEqual(['a', null]);
    expect(errors.get(1)).toMatchObject({ code: 'call_timeout' });
  });

  it('that cannot be imported says why in its status', async () => {
    const rig = await Rig.open({ pythonDefault });
    const record = await rig.deploy(pythonSpec('import no_such_package'));
    const report = await rig.report(record, ({ failed }) => failed > 0);
    expect(report.reason).toMatch(/no_such_package/);
  });

  it('prints to the function log', async () => {
    const rig = await Rig.open({ pythonDefault });
    const record = await rig.deploy(pythonSpec(declared('print("seen", len(text))\nreturn text')));
    await rig.run(record, ['a', 'b']);
    await rig.workers.stop();
    const lines = await rig.store.registry.logs({ name: 'f', limit: 10 });
    expect(lines.map(({ stream, text }) => [stream, text])).toContainEqual(['stdout', 'seen 2']);
  });

  it('finishes its batch in a stop, and does not begin the one that waits behind it', async () => {
    const rig = await Rig.open({ pythonDefault });
    const [begun, gate] = [new Gate(rig, 'begun'), new Gate(rig, 'gate')];
    const body = declared(
      'for t in text:\n    if t[0] == "/": [open(path).read() for path in t.split()]\n    else: print("ran", t)\nreturn text',
    );
    const batching = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
    const record = await rig.deploy(pythonSpec(body, { batching }));
    const running = await rig.submit(record, [`${begun.path} ${gate.path}`]);
    await begun.open();
    const waiting = await rig.submit(record, ['b']);
    // Sealed ahead for the busy replica: nothing waits in the buffer any more.
    const open = { versionId: record.current.id, after: 0, limit: 1 };
    while ((await rig.store.queue.open(open)).calls.length > 0);
    const stopped = rig.workers.stop();
    await gate.open();
    expect((await rig.finished(running)).status).toBe('completed');
    await stopped;
    const call = await rig.store.queue.call(waiting);
    expect(call).toMatchObject({ counts: { ok: 0, failed: 0 } });
    const lines = await rig.store.registry.logs({ name: 'f', limit: 10 });
    expect(lines.map(({ text }) => text)).not.toContain('ran b');
  });
});
