/** Replicas that come and go with the load: real processes, between the bounds, and no call lost on the way. */
import { describe, expect, it } from 'vitest';
import { plainScaling, type Scaling } from '../../../shared/domain/scaling.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import { GATED, Gate, nodeSpec, Rig, type SpecChanges, watchedRig } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
const gated = (changes: SpecChanges = {}) => nodeSpec(GATED, { batching: single, ...changes });

/** One replica for each row, and down again without a pause. */
const scaling = (minReplicas: number, maxReplicas: number): Scaling => ({
  ...plainScaling({ min: minReplicas, max: maxReplicas }),
  targetRows: 1,
  scaleDownMs: 0,
  idleMs: 0,
});

const gatesOf = (rig: Rig, count: number, name = 'gate'): Gate[] =>
  Array.from({ length: count }, (_, nth) => new Gate(rig, `${name}-${nth}`));

describe('a function under load', () => {
  it('goes from its minimum to its maximum and back', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(gated(), { scaling: scaling(1, 3) });
    await rig.report(record, ({ ready }) => ready === 1);
    const gates = gatesOf(rig, 5);
    const calls = await Promise.all(gates.map(({ path }) => rig.submit(record, [path])));
    await rig.report(record, ({ ready }) => ready === 3);
    await Promise.all(gates.map((gate) => gate.open()));
    for (const call of calls) expect((await rig.finished(call)).status).toBe('completed');
    const { replicas } = await rig.report(
      record,
      (report) =>
        report.ready === 1 && report.replicas?.length === 1 && report.replicas[0]!.runningRows === 0,
    );
    const { values } = await metrics.scalingDecisions.get();
    expect(new Set(values.map(({ labels }) => labels.direction))).toEqual(new Set(['up', 'down']));
    expect((await metrics.replicasWanted.get()).values).toMatchObject([
      { labels: { function: 'f' }, value: 1 },
    ]);
    expect(replicas).toMatchObject([{ state: 'ready', reason: null, restarts: 0, devices: [] }]);
  });

  it('goes to none and back, again and again, and loses no call', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(gated(), { scaling: scaling(0, 2) });
    for (let round = 0; round < 3; round += 1) {
      const calls = await Promise.all(['a', 'b', 'c'].map((text) => rig.submit(record, [text])));
      for (const call of calls) expect((await rig.finished(call)).status).toBe('completed');
      // The next calls come while the last replica is on its way out, or just after.
      await rig.report(record, ({ ready }) => ready === 0);
    }
    await rig.report(record, ({ replicas }) => replicas?.length === 0);
  });

  it('keeps a replica that runs a batch until it has finished, and hands back what waits before it', async () => {
    const { rig, leased } = await watchedRig();
    const record = await rig.deploy(gated(), { scaling: scaling(3, 3) });
    await rig.report(record, ({ ready }) => ready === 3);
    const gates = gatesOf(rig, 3);
    const calls = await Promise.all(gates.map(({ path }) => rig.submit(record, [path])));
    await leased(3);
    // Three more lie before the busy replicas.
    calls.push(...(await Promise.all(['a', 'b', 'c'].map((text) => rig.submit(record, [text])))));
    await leased(6);
    const before = await rig.report(record, ({ replicas }) => replicas?.length === 3);
    await rig.store.registry.update({ now: Date.now(), name: 'f', update: { scaling: scaling(1, 1) } });
    const during = await rig.report(
      record,
      ({ replicas }) => replicas?.some(({ state }) => state === 'stopping') ?? false,
    );
    expect(during.replicas?.map(({ state }) => state).toSorted()).toEqual(['ready', 'stopping', 'stopping']);
    for (const gate of gates) await gate.open();
    const pids = new Set(before.replicas?.map(({ place }) => place));
    for (const call of calls) {
      const { status, values } = await rig.finished(call);
      const [, attempt, pid] = / in attempt (\d+) of (\d+)$/.exec(String(values[0])) ?? [];
      expect([status, attempt, pids.has(pid ?? '')]).toEqual(['completed', '1', true]);
    }
    const after = await rig.report(record, ({ replicas }) => replicas?.length === 1);
    expect(after.replicas).toMatchObject([{ restarts: 0, state: 'ready' }]);
    expect(pids.has(after.replicas?.[0]?.place ?? null)).toBe(true);
  });

  it('keeps a replica after all that is wanted again before it has gone', async () => {
    const { rig, leased } = await watchedRig();
    const record = await rig.deploy(gated(), { scaling: scaling(2, 2) });
    await rig.report(record, ({ ready }) => ready === 2);
    const gates = gatesOf(rig, 2);
    const calls = await Promise.all(gates.map(({ path }) => rig.submit(record, [path])));
    await leased(2);
    const rescale = (to: Scaling) =>
      rig.store.registry.update({ now: Date.now(), name: 'f', update: { scaling: to } });
    const before = await rig.report(record, () => true);
    await rescale(scaling(1, 1));
    await rig.report(record, ({ replicas }) => replicas?.some(({ state }) => state === 'stopping') ?? false);
    await rescale(scaling(2, 2));
    const after = await rig.report(record, ({ ready }) => ready === 2);
    const places = (report: typeof after) => report.replicas?.map(({ place }) => place).toSorted();
    expect(places(after)).toEqual(places(before));
    for (const gate of gates) await gate.open();
    for (const call of calls) expect((await rig.finished(call)).status).toBe('completed');
  });

  it('scales by itself where its own options leave room', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(gated({ replicas: { min: 1, max: 2 } }));
    const gates = gatesOf(rig, 3);
    const calls = await Promise.all(gates.map(({ path }) => rig.submit(record, [path])));
    await rig.report(record, ({ ready }) => ready === 2);
    for (const gate of gates) await gate.open();
    for (const call of calls) expect((await rig.finished(call)).status).toBe('completed');
  });
});

describe('two functions under load', () => {
  it('have their own replicas, and one that hangs does not slow the other', async () => {
    const rig = await Rig.open();
    const hanging = await rig.deploy(gated({ name: 'hanging' }), { scaling: scaling(1, 2) });
    const serving = await rig.deploy(gated({ name: 'serving' }), { scaling: scaling(1, 2) });
    const gates = gatesOf(rig, 6);
    const held = await Promise.all(gates.map(({ path }) => rig.submit(hanging, [path])));
    await rig.report(hanging, ({ ready }) => ready === 2);
    const texts = Array.from({ length: 100 }, (_, nth) => `row ${nth}`);
    const calls = await Promise.all(texts.map((text) => rig.submit(serving, [text])));
    // All gates are shut: had anything of the one waited for the other, these calls would never finish.
    for (const [nth, call] of calls.entries()) {
      const { status, values } = await rig.finished(call);
      expect([status, String(values[0]).startsWith(`row ${nth} in attempt 1`)]).toEqual(['completed', true]);
    }
    const pids = async (record: typeof hanging) =>
      (await rig.report(record, () => true)).replicas?.map(({ place }) => place) ?? [];
    const [ofOne, ofOther] = [await pids(hanging), await pids(serving)];
    expect(new Set([...ofOne, ...ofOther]).size).toBe(ofOne.length + ofOther.length);
    for (const gate of gates) await gate.open();
    for (const call of held) expect((await rig.finished(call)).status).toBe('completed');
  });
});
