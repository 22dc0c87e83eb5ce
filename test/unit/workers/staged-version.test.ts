/** A version that starts beside the current one: what it gets, how it takes over, and what is left when it is dropped. */
import { describe, expect, it } from 'vitest';
import type { FunctionRecord } from '../../../shared/domain/function.ts';
import { plainScaling } from '../../../shared/domain/scaling.ts';
import { nodeSpec, Rig } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
const answering = (name: string): string =>
  `export const run = ({ text }) => text.map((t) => t + ' ${name}')`;
const spec = (name: string) => nodeSpec(answering(name), { batching: single });
const scaling = plainScaling({ min: 1, max: 2 });

const settle = (rig: Rig, record: FunctionRecord, end: 'activate' | 'drop') =>
  rig.store.registry.settleStaged({ now: Date.now(), name: record.name, digest: record.staged!.digest, end });

describe('a staged version', () => {
  it('is ready beside the current one, gets calls once it is activated, and no call fails meanwhile', async () => {
    const rig = await Rig.open();
    const old = await rig.deploy(spec('one'), { scaling });
    await rig.report(old, ({ ready }) => ready === 1);
    const calls: number[] = [];
    let isOver = false;
    const load = async (): Promise<void> => {
      while (!isOver) {
        const record = await rig.store.registry.function('f');
        const call = await rig.submit(record!, [`${calls.length}`]);
        calls.push(call);
        // Some are waited for, the others wait with it.
        if (calls.length % 5 === 0) await rig.finished(call);
      }
    };
    const loading = load();
    const staged = await rig.deploy(spec('two'), { isStaged: true });
    expect(staged.current.digest).toBe(old.current.digest);
    await rig.report(staged, ({ ready }) => ready >= 1, staged.staged!);
    expect((await rig.run(staged, ['now'])).values).toEqual(['now one']);
    expect(await settle(rig, staged, 'activate')).toBe(true);
    const record = (await rig.store.registry.function('f'))!;
    expect((await rig.run(record, ['now'])).values).toEqual(['now two']);
    isOver = true;
    await loading;
    const seen = new Set<unknown>();
    for (const [nth, call] of calls.entries()) {
      const { status, values } = await rig.finished(call);
      expect([status, values.length]).toEqual(['completed', 1]);
      expect(values[0]).toMatch(new RegExp(`^${nth} (one|two)$`));
      seen.add(String(values[0]).split(' ')[1]);
    }
    expect(seen).toContain('one');
    // The old one goes when its calls are finished.
    await rig.report(old, ({ replicas }) => replicas?.length === 0);
  });

  it('that crashes on load says why, and the current one serves on', async () => {
    const rig = await Rig.open();
    const old = await rig.deploy(spec('one'), { scaling });
    await rig.report(old, ({ ready }) => ready === 1);
    const broken = nodeSpec("throw new Error('no such weights')", { batching: single });
    const staged = await rig.deploy(broken, { isStaged: true });
    const isLost = ({ restarts, state }: { restarts: number; state: string }) =>
      restarts >= 2 && state === 'failed';
    const failing = await rig.report(
      staged,
      ({ replicas }) => replicas?.some(isLost) ?? false,
      staged.staged!,
    );
    expect(failing).toMatchObject({ ready: 0, reason: expect.stringContaining('no such weights') });
    expect(failing.replicas?.[0]?.reason).toContain('no such weights');
    expect(await settle(rig, staged, 'drop')).toBe(true);
    const record = (await rig.store.registry.function('f'))!;
    expect((await rig.run(record, ['a'])).values).toEqual(['a one']);
    expect((await rig.report(record, ({ ready }) => ready === 1)).replicas).toMatchObject([{ restarts: 0 }]);
  });

  it('goes when it is dropped', async () => {
    const rig = await Rig.open();
    await rig.deploy(spec('one'), { scaling });
    const staged = await rig.deploy(spec('two'), { isStaged: true });
    const { replicas } = await rig.report(staged, ({ ready }) => ready === 1, staged.staged!);
    await settle(rig, staged, 'drop');
    const pid = Number(replicas?.[0]?.place);
    await expect.poll(() => isAlive(pid)).toBe(false);
  });
});

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('a staged version on a machine with one device', () => {
  const gpu = { resources: { cpu: null, memoryBytes: null, gpu: 'nvidia-l4' }, batching: single };

  it('has it first, says so, and gives it back when it is dropped', async () => {
    const rig = await Rig.open({ machine: { gpus: 1, memoryBytes: 2 ** 33 } });
    const old = await rig.deploy(nodeSpec(answering('one'), gpu), {
      scaling: plainScaling({ min: 1, max: 1 }),
    });
    await rig.report(old, ({ ready }) => ready === 1);
    const staged = await rig.deploy(nodeSpec(answering('two'), gpu), { isStaged: true });
    const up = await rig.report(staged, ({ ready }) => ready === 1, staged.staged!);
    expect(up.ignored.at(-1)).toMatch(/^a start beside its old version, which stops first \(gpu="nvidia-l4"/);
    expect(up.replicas).toMatchObject([{ devices: [0] }]);
    const waiting = await rig.report(old, ({ reason }) => reason !== null);
    expect(waiting).toMatchObject({ ready: 0, starting: 1, replicas: [] });
    const call = await rig.submit(old, ['a']);
    await settle(rig, staged, 'drop');
    expect((await rig.finished(call)).values).toEqual(['a one']);
    await rig.report(old, ({ ready, reason }) => ready === 1 && reason === null);
  });
});
