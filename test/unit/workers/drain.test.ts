/** A worker that lets go: a batch runs on where its handler has begun it, known here or not, or goes to others; never both. */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { FunctionSpec } from '../../../shared/domain/function.ts';
import { Gate, nodeSpec, watchedRig } from './rig.ts';

const VENV = path.resolve(import.meta.dirname, '../../../.venv/bin/python');
const pythonDefault = existsSync(VENV) ? VENV : 'python3';
const batching = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };

/** Rows are `BEGUN GATE`: writing to the first pipe waits for a reader, reading the second for a writer. */
const HANDLERS: Readonly<Record<string, FunctionSpec>> = {
  node: nodeSpec(
    `import { readFileSync, writeFileSync } from 'node:fs';
export const run = ({ text: [row] }) => {
  const [begun, gate] = row.split(' ');
  writeFileSync(begun, 'x');
  readFileSync(gate);
  return [row];
};`,
    { batching },
  ),
  python: nodeSpec(
    `import sluice
@sluice.function(name="f")
def run(text: list[str]) -> list[str]:
    begun, gate = text[0].split()
    open(begun, "w").write("x")
    open(gate).read()
    return text`,
    { runtime: 'python', handler: { file: 'f.py', attribute: 'run' }, batching },
  ),
};

/** A rig on whose one replica a batch runs, with another ahead; nothing of either is under way on the host's side. */
const busyRig = async (spec: FunctionSpec) => {
  let free = 1;
  const offered = new Set<() => void>();
  const released: number[] = [];
  const { rig, leased } = await watchedRig({
    pythonDefault,
    faulty: (queue) => ({
      offer: async (offer) => {
        await queue.offer(offer);
        free = offer.idle + offer.prefetch;
        for (const look of offered) look();
      },
      release: async (lease) => {
        released.push(lease.batchId);
        for (const look of offered) look();
        return queue.release(lease);
      },
    }),
  });
  const until = (wish: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (wish()) resolve();
      };
      offered.add(look);
      look();
    });
  const gates = ['begun 1', 'gate 1', 'begun 2', 'gate 2'].map(
    (name) => new Gate(rig, name.replace(' ', '-')),
  );
  const record = await rig.deploy(spec);
  const running = await rig.submit(record, [`${gates[0]!.path} ${gates[1]!.path}`]);
  await readFile(gates[0]!.path);
  const waiting = await rig.submit(record, [`${gates[2]!.path} ${gates[3]!.path}`]);
  const { batchId } = await leased(2);
  await until(() => free === 0);
  const untilReleased = () => until(() => released.includes(batchId));
  return { rig, running, waiting, gates, released, untilReleased };
};

/** Holds this whole process until a handler writes. */
const read = (gate: Gate): void => {
  execFileSync('cat', [gate.path], { timeout: 20_000 });
};

describe.each(Object.keys(HANDLERS))('a worker with a handler of %s that stops', (runtime) => {
  it('finishes a batch that was begun before anybody here heard of it', async () => {
    const { rig, running, waiting, gates, released } = await busyRig(HANDLERS[runtime]!);
    // In one turn of the event loop: the handler answers and begins the next, and the host has read nothing of it.
    writeFileSync(gates[1]!.path, 'x');
    read(gates[2]!);
    const stopped = rig.workers.stop();
    await gates[3]!.open();
    await stopped;
    expect(released).toEqual([]);
    for (const callId of [running, waiting])
      expect(await rig.store.queue.call(callId)).toMatchObject({ status: 'completed', counts: { ok: 1 } });
  });
});

describe('a worker that stops', () => {
  it('hands back what waits behind a long batch at once', async () => {
    const { rig, running, waiting, gates, untilReleased } = await busyRig(HANDLERS.python!);
    const stopped = rig.workers.stop();
    await untilReleased();
    await gates[1]!.open();
    await stopped;
    expect(await rig.store.queue.call(running)).toMatchObject({ status: 'completed' });
    expect(await rig.store.queue.call(waiting)).toMatchObject({ counts: { ok: 0, failed: 0 } });
  });
});
