/** How one version follows another: side by side where the machine holds both, the old one stopping first elsewhere. */
import { describe, expect, it } from 'vitest';
import type { FunctionSpec, ReplicaReport } from '../../../shared/domain/function.ts';
import { clashOf, type Room } from '../../../workers/machine-room.ts';
import { GATED, Gate, nodeSpec, Rig, type SpecChanges, watchedRig } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
const gpu = { resources: { cpu: null, memoryBytes: null, gpu: 'nvidia-l4' } };
const answering = (name: string): string =>
  `export const run = ({ text }) => text.map((t) => t + ' ${name}')`;

/** Answers which device it has, once the gate in the row is open. */
const DEVICE = `import { readFile } from 'node:fs/promises';
export const run = async ({ text }) => {
  for (const t of text) if (t.startsWith('/')) await readFile(t);
  return text.map(() => 'device ' + process.env.CUDA_VISIBLE_DEVICES);
};`;

const isUp = ({ ready }: ReplicaReport): boolean => ready === 1;

describe('a new version on a machine with one device', () => {
  it('starts when the old one has finished its running batch and stopped, and says so', async () => {
    const { rig, leased } = await watchedRig({ machine: { gpus: 1, memoryBytes: 2 ** 33 } });
    const old = await rig.deploy(nodeSpec(GATED, { ...gpu, batching: single }));
    await rig.report(old, isUp);
    const gate = new Gate(rig, 'gate');
    const running = await rig.submit(old, [gate.path]);
    await leased(1);
    const current = await rig.deploy(nodeSpec(answering('two'), { ...gpu, batching: single }));
    const waits = await rig.report(current, ({ reason }) => reason !== null);
    expect(waits).toMatchObject({ ready: 0, starting: 1, failed: 0 });
    expect(waits.reason).toBe(
      `waits until version ${old.current.digest} has finished its running batches and stopped (gpu="nvidia-l4": one device of this machine cannot hold both versions)`,
    );
    expect(waits.ignored.at(-1)).toMatch(/^a start beside its old version, which stops first \(gpu=/);
    const early = await rig.submit(current, ['early']);
    await gate.open();
    const { status, values } = await rig.finished(running);
    expect([status, values[0]]).toEqual(['completed', expect.stringMatching(/ in attempt 1 of \d+$/)]);
    expect((await rig.finished(early)).values).toEqual(['early two']);
    await rig.report(current, (report) => isUp(report) && report.reason === null);
    await rig.report(old, ({ ready, starting }) => ready + starting === 0);
  });

  it('leaves the device to what waits for the old one, once it has nothing to do', async () => {
    const rig = await Rig.open({ machine: { gpus: 1, memoryBytes: 2 ** 33 } });
    const old = await rig.deploy(nodeSpec(answering('one'), { ...gpu, batching: single }));
    await rig.report(old, isUp);
    const current = await rig.deploy(nodeSpec(answering('two'), { ...gpu, batching: single }));
    await rig.report(current, isUp);
    const late = await rig.submit(old, ['late']);
    expect((await rig.finished(late)).values).toEqual(['late one']);
    await rig.report(current, isUp);
    expect((await rig.run(current, ['next'])).values).toEqual(['next two']);
  });

  it('lets no backlog of the old one hold it up', async () => {
    const { rig, leased } = await watchedRig({ machine: { gpus: 1, memoryBytes: 2 ** 33 } });
    const old = await rig.deploy(nodeSpec(GATED, { ...gpu, batching: single }));
    const gates = [new Gate(rig, 'first'), new Gate(rig, 'second')] as const;
    const calls = [await rig.submit(old, [gates[0].path])];
    await leased(1);
    calls.push(await rig.submit(old, [gates[1].path]));
    const current = await rig.deploy(nodeSpec(answering('two'), { ...gpu, batching: single }));
    const early = await rig.submit(current, ['early']);
    await rig.report(current, ({ reason }) => reason !== null);
    await gates[0].open();
    // The second gate is still shut: had the old version gone on to it, this call would never finish.
    expect((await rig.finished(early)).values).toEqual(['early two']);
    await gates[1].open();
    for (const callId of calls) expect((await rig.finished(callId)).status).toBe('completed');
  });
});

describe('a new version on a machine with room', () => {
  it('is ready on another device while the old one still runs', async () => {
    const { rig, leased } = await watchedRig({ machine: { gpus: 2, memoryBytes: 2 ** 33 } });
    const old = await rig.deploy(nodeSpec(DEVICE, { ...gpu, batching: single }));
    await rig.report(old, isUp);
    const gate = new Gate(rig, 'gate');
    const running = await rig.submit(old, [gate.path]);
    await leased(1);
    const current = await rig.deploy(nodeSpec(`${DEVICE}// 2`, { ...gpu, batching: single }));
    expect((await rig.run(current, ['a'])).values).toEqual(['device 1']);
    await gate.open();
    expect((await rig.finished(running)).values).toEqual(['device 0']);
  });
});

describe('the room of a machine', () => {
  const share = (changes: SpecChanges, replicas = 1) => {
    const spec: FunctionSpec = nodeSpec('', changes);
    return { version: { id: 1, digest: 'd', createdAt: 0, spec }, replicas };
  };
  const room: Room = { devices: 2, freeDevices: 1, memoryBytes: 16 * 2 ** 30 };
  const memory = (gib: number) => ({ resources: { cpu: 64, memoryBytes: gib * 2 ** 30, gpu: null } });

  it('holds what finds a free device, or shares no device with another version', () => {
    expect(clashOf(share(gpu), [share(gpu)], room)).toBeNull();
    expect(clashOf(share(gpu, 2), [share(gpu)], room)).toMatch(/2 devices of this machine cannot hold both/);
    expect(clashOf(share(gpu, 9), [], { ...room, freeDevices: 0 })).toBeNull();
    expect(clashOf(share(gpu), [share({})], { ...room, freeDevices: 0 })).toBeNull();
    expect(clashOf(share({}), [share(gpu, 2)], { ...room, freeDevices: 0 })).toBeNull();
  });

  it('holds the declared memory of both, and cores without end', () => {
    expect(clashOf(share(memory(8)), [share(memory(8))], room)).toBeNull();
    expect(clashOf(share(memory(4), 2), [share(memory(3), 3)], room)).toBe(
      'memory: 8.0 GiB beside 9.0 GiB is more than the 16.0 GiB of this machine',
    );
    expect(clashOf(share(memory(32)), [], room)).toBeNull();
    expect(clashOf(share(memory(32)), [share({})], room)).toBeNull();
  });
});
