/** How batches get to replicas and back: slots, leases, settles, drains, versions. */
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { InputStream } from '../../../shared/arrow/index.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import type { BackendFactory } from '../../../workers/backend.ts';
import { ProcessBackend } from '../../../workers/process-backend.ts';
import { GATED, Gate, nodeSpec, Rig, watchedRig, withVerbs } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };

const settleConflicts = async (): Promise<number> => {
  const { values } = await metrics.settleConflicts.get();
  return values.find(({ labels }) => labels.function === 'f')?.value ?? 0;
};

/** Processes whose handler takes no time, whatever the machine does meanwhile: a batch begins when its answer is there. */
const timeless: BackendFactory = async (parts) => {
  const settings = { pythonDefault: null, environmentsDirectory: null, environmentsBytesMax: 2 ** 40 };
  const processes = new ProcessBackend({ ...parts, ...settings, modulesDirectory: process.cwd() });
  return withVerbs(processes, {
    launch: async (request) => {
      const handler = await processes.launch(request);
      return withVerbs(handler, {
        run: async (batch, context, signal, begun) => {
          const answer = await handler.run(batch, context, signal, () => undefined);
          begun();
          return answer;
        },
      });
    },
  });
};

describe('slots', () => {
  it('are many ahead of a fast handler, but one for large batches', async () => {
    const offered: number[] = [];
    const rig = await Rig.open({
      backends: { kubernetes: timeless },
      faulty: (queue) => ({
        offer: async (offer) => {
          await queue.offer(offer);
          offered.push(offer.prefetch);
        },
      }),
    });
    const run = 'export const run = ({ text }) => text.map(({ length }) => String(length));';
    const record = await rig.deploy(nodeSpec(run, { batching: single, backend: 'kubernetes' }));
    await rig.run(record, ['a']);
    await expect.poll(() => offered.at(-1)).toBeGreaterThan(1);
    const { values } = await rig.run(record, ['a'.repeat(40 * 2 ** 20)]);
    expect(values).toEqual([String(40 * 2 ** 20)]);
    await expect.poll(() => offered.at(-1)).toBeLessThanOrEqual(1);
  });

  it('give a process the pieces of its batches, which nobody joins', async () => {
    const joined = vi.spyOn(InputStream.prototype, 'bytes', 'get');
    onTestFinished(() => joined.mockRestore());
    const rig = await Rig.open();
    const run = 'export const run = ({ text }) => text.map(({ length }) => String(length));';
    const record = await rig.deploy(nodeSpec(run, { batching: single }));
    const { values } = await rig.run(record, ['a', 'bb']);
    expect(values).toEqual(['1', '2']);
    expect(joined).not.toHaveBeenCalled();
  });

  it('give a replica its next batch while one runs, and no third', async () => {
    const { rig, leased } = await watchedRig();
    const gate = new Gate(rig, 'gate');
    const record = await rig.deploy(nodeSpec(GATED, { batching: single }));
    const first = await rig.submit(record, [gate.path]);
    await leased(1);
    const later = [await rig.submit(record, ['b']), await rig.submit(record, ['c'])];
    const second = await leased(2);
    expect(second.slices[0]?.callId).toBe(later[0]);
    const call = await rig.store.queue.open({ versionId: record.current.id, after: 0, limit: 10 });
    expect(call.calls.map(({ callId }) => callId)).toEqual([later[1]]);
    await gate.open();
    for (const callId of [first, ...later]) expect((await rig.finished(callId)).status).toBe('completed');
  });

  it('let replicas run side by side', async () => {
    const rig = await Rig.open();
    const [left, right] = [new Gate(rig, 'left'), new Gate(rig, 'right')];
    const record = await rig.deploy(nodeSpec(GATED, { batching: single, replicas: { min: 2, max: 2 } }));
    await rig.report(record, ({ ready }) => ready === 2);
    const calls = [await rig.submit(record, [left.path]), await rig.submit(record, [right.path])];
    // The second gate is reached although nobody has opened the first.
    await right.open();
    expect((await rig.finished(calls[1]!)).status).toBe('completed');
    await left.open();
    expect((await rig.finished(calls[0]!)).status).toBe('completed');
  });
});

describe('settling', () => {
  it('is tried again when it fails, and spends no attempt', async () => {
    let refusals = 2;
    const rig = await Rig.open({
      faulty: (queue) => ({
        settle: async (settlement) => {
          if (refusals > 0) {
            refusals -= 1;
            throw new Error('the disk is busy');
          }
          return queue.settle(settlement);
        },
      }),
    });
    const record = await rig.deploy(nodeSpec(GATED));
    const { values } = await rig.run(record, ['a']);
    expect(values[0]).toMatch(/^a in attempt 1 /);
    expect(refusals).toBe(0);
  });

  it('commits once when a lease was lost on the way', async () => {
    const { rig, leased } = await watchedRig({
      leaseMs: 300,
      faulty: () => ({ extend: async () => ({ lost: [] }) }),
    });
    const before = await settleConflicts();
    const gate = new Gate(rig, 'gate');
    const record = await rig.deploy(nodeSpec(GATED, { batching: single }));
    const callId = await rig.submit(record, [gate.path]);
    const again = await leased(2);
    expect([again.claims, again.attempts, again.mode]).toEqual([1, 0, 'retry']);
    await gate.open();
    expect((await rig.finished(callId)).status).toBe('completed');
    expect((await settleConflicts()) - before).toBeGreaterThanOrEqual(1);
  });

  it('takes no settled batch for lost that a heartbeat still named', async () => {
    const named = Promise.withResolvers<void>();
    const warnings: string[] = [];
    const log = silentLog();
    log.child = () => ({ ...log, warn: (_: unknown, text: string) => warnings.push(text) }) as never;
    const rig = await Rig.open({
      log,
      leaseMs: 2000,
      faulty: (queue) => ({
        settle: async (settlement) => {
          const answer = await queue.settle(settlement);
          await named.promise;
          return answer;
        },
        extend: async (request) => {
          const answer = await queue.extend(request);
          if (answer.lost.length > 0) named.resolve();
          return answer;
        },
      }),
    });
    const { status } = await rig.run(await rig.deploy(nodeSpec(GATED)), ['a']);
    await named.promise;
    await rig.workers.stop();
    expect(status).toBe('completed');
    expect(warnings).toEqual([]);
  });

  it('drops the answer of a lease that an extension found lost', async () => {
    const taken = new Set<number>();
    const { rig, leased } = await watchedRig({
      leaseMs: 2000,
      faulty: (queue) => ({
        extend: async ({ leases }) => {
          const lost = leases.filter(({ batchId }) => !taken.has(batchId));
          for (const { batchId, token } of lost) {
            taken.add(batchId);
            await queue.release({ batchId, token, now: Date.now() });
          }
          return { lost: lost.map(({ batchId }) => batchId) };
        },
      }),
    });
    const before = await settleConflicts();
    const gate = new Gate(rig, 'gate');
    const record = await rig.deploy(nodeSpec(GATED, { batching: single }));
    const callId = await rig.submit(record, [gate.path]);
    await leased(2);
    await gate.open();
    expect((await rig.finished(callId)).status).toBe('completed');
    expect(await settleConflicts()).toBe(before);
  });
});

const rowsSettled = async (): Promise<number> => {
  const { values } = await metrics.rowsSettled.get();
  const ofF = values.filter(({ labels }) => labels.function === 'f' && labels.outcome === 'ok');
  return ofF.reduce((sum, { value }) => sum + value, 0);
};

describe('cancelling', () => {
  it('leaves rows that were answered late out of those that are settled', async () => {
    const { rig, leased } = await watchedRig();
    const gate = new Gate(rig, 'gate');
    const batching = { sizeRows: 2, durationMs: 60_000, bytesMax: 2 ** 26 };
    const record = await rig.deploy(nodeSpec(GATED, { batching }));
    const before = await rowsSettled();
    const calls = [await rig.submit(record, [gate.path]), await rig.submit(record, ['b'])];
    await leased(1);
    await rig.store.queue.cancel({ now: Date.now(), callId: calls[1]! });
    expect((await rig.finished(calls[1]!)).status).toBe('cancelled');
    await gate.open();
    expect((await rig.finished(calls[0]!)).status).toBe('completed');
    await expect.poll(async () => (await rowsSettled()) - before).toBe(1);
  });

  it('tells a handler that nobody wants its answer, and keeps its process', async () => {
    const { rig, leased } = await watchedRig();
    const body = `export const run = ({ text }, context, signal) => text[0] === 'wait'
      ? new Promise((resolve) => signal.addEventListener('abort', () => resolve(text)))
      : [String(process.pid)];`;
    const record = await rig.deploy(nodeSpec(body, { batching: single }));
    const [pid] = (await rig.run(record, ['pid'])).values;
    const callId = await rig.submit(record, ['wait']);
    await leased(2);
    await rig.store.queue.cancel({ now: Date.now(), callId });
    expect((await rig.finished(callId)).status).toBe('cancelled');
    expect((await rig.run(record, ['pid'])).values).toEqual([pid]);
  });
});

describe('a stop', () => {
  it('finishes what runs and hands back at no cost what has not begun', async () => {
    const { rig, leased } = await watchedRig();
    const gate = new Gate(rig, 'gate');
    const record = await rig.deploy(nodeSpec(GATED, { batching: single }));
    const running = await rig.submit(record, [gate.path]);
    await leased(1);
    const waiting = await rig.submit(record, ['b']);
    const second = await leased(2);
    const stopped = rig.workers.stop();
    await gate.open();
    expect((await rig.finished(running)).status).toBe('completed');
    await stopped;
    await rig.workers.stop();
    const request = { workerId: 'test', versionId: record.current.id, leaseMs: 1000, max: 9 };
    const left = await rig.store.queue.lease({ now: Date.now(), ...request });
    expect(left).toMatchObject([{ batchId: second.batchId, attempts: 0, claims: 0 }]);
    expect(left[0]?.slices[0]?.callId).toBe(waiting);
  });

  it('hands back what outlives the grace', async () => {
    const { rig, leased } = await watchedRig({ graceMs: 50 });
    const record = await rig.deploy(nodeSpec('export const run = () => new Promise(() => {});'));
    await rig.submit(record, ['a']);
    const { batchId } = await leased(1);
    await rig.workers.stop();
    const request = { workerId: 'test', versionId: record.current.id, leaseMs: 1000, max: 9 };
    const left = await rig.store.queue.lease({ now: Date.now(), ...request });
    expect(left).toMatchObject([{ batchId, attempts: 0, claims: 0 }]);
  });

  it('does no harm before a start', async () => {
    const rig = await Rig.open({ asleep: true });
    await expect(rig.workers.stop()).resolves.toBeUndefined();
  });
});

describe('versions', () => {
  const answering = (name: string): string =>
    `export const run = ({ text }) => text.map((t) => t + ' ${name}')`;

  it('run the rows that were admitted to them, and rest when nothing is left', async () => {
    const { rig } = await watchedRig();
    const gate = new Gate(rig, 'gate');
    const old = await rig.deploy(nodeSpec(GATED, { batching: single }));
    const held = await rig.submit(old, [gate.path]);
    const waiting = await rig.submit(old, ['b']);
    const current = await rig.deploy(nodeSpec(answering('two'), { batching: single }));
    expect((await rig.run(current, ['a'])).values).toEqual(['a two']);
    await gate.open();
    expect((await rig.finished(held)).status).toBe('completed');
    expect((await rig.finished(waiting)).values[0]).toMatch(/^b in attempt 1/);
    await rig.report(old, ({ ready }) => ready === 0);
    // A row for the version that rests wakes it up again.
    const late = await rig.submit(old, ['late']);
    expect((await rig.finished(late)).values[0]).toMatch(/^late in attempt 1/);
  });

  it('keep the old one up while the new one cannot start', async () => {
    const rig = await Rig.open();
    const old = await rig.deploy(nodeSpec(answering('one')));
    await rig.report(old, ({ ready }) => ready === 1);
    const broken = await rig.deploy(nodeSpec("throw new Error('broken')"));
    await rig.report(broken, ({ failed }) => failed === 1);
    expect((await rig.run(old, ['a'])).values).toEqual(['a one']);
  });

  it('of a minimum of 0 start with their first row', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(nodeSpec(answering('lazy'), { replicas: { min: 0, max: 1 } }));
    const idle = await rig.report(record, () => true);
    expect([idle.ready, idle.starting]).toEqual([0, 0]);
    expect((await rig.run(record, ['a'])).values).toEqual(['a lazy']);
  });

  it('find rows that were there before the workers', async () => {
    const rig = await Rig.open({ asleep: true });
    const lazy = { replicas: { min: 0, max: 1 } };
    const old = await rig.deploy(nodeSpec(answering('one'), lazy));
    const early = await rig.submit(old, ['a']);
    await rig.deploy(nodeSpec(answering('two'), lazy));
    await rig.workers.start();
    expect((await rig.finished(early)).values).toEqual(['a one']);
  });
});
