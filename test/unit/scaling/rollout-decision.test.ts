import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rolloutDecision } from '../../../services/scaling/rollout-decision.ts';
import type { ReplicaFacts, ReplicaReport } from '../../../shared/domain/function.ts';

const replica = (more: Partial<ReplicaFacts> = {}): ReplicaFacts => ({
  ...{ index: 0, state: 'starting', since: 0, reason: null, place: null, devices: [] },
  ...{ restarts: 0, runningRows: 0, cpuPercent: null, memoryBytes: null },
  ...more,
});
const report = (replicas: readonly ReplicaFacts[], more: Partial<ReplicaReport> = {}): ReplicaReport => {
  const count = (state: string) => replicas.filter((one) => one.state === state).length;
  return {
    ...{ workerId: 'w', versionId: 1, reason: null, ignored: [], replicas, until: 1e12 },
    ...{ ready: count('ready'), starting: count('starting'), failed: count('failed') },
    ...more,
  };
};
const decide = (reports: readonly ReplicaReport[], minReplicas = 1, now = 500) =>
  rolloutDecision({ reports, minReplicas, since: 0, readyTimeoutMs: 1000, now });
const ready = (count: number) => report(Array.from({ length: count }, () => replica({ state: 'ready' })));

describe('a staged version', () => {
  it('waits until a worker has begun', () => {
    expect(decide([])).toEqual({ step: 'wait', text: 'no worker has begun to start it' });
  });

  it('takes over when as many replicas are ready as the group has at least, over all workers', () => {
    expect(decide([ready(1)], 2)).toEqual({ step: 'wait', text: '1 of 2 replicas ready' });
    expect(decide([ready(1), ready(1)], 2)).toEqual({ step: 'activate', text: '2 of 2 replicas ready' });
  });

  it('takes over with one where the group may have none', () => {
    expect(decide([], 0).step).toBe('wait');
    expect(decide([ready(1)], 0).step).toBe('activate');
  });

  it('is dropped with its last words when a replica failed to start three times', () => {
    const failing = (restarts: number, state: 'failed' | 'starting') =>
      report([replica({ state, restarts })], { reason: 'ImportError: no module named x' });
    expect(decide([failing(1, 'failed')])).toMatchObject({
      step: 'wait',
      text: expect.stringContaining('ImportError'),
    });
    expect(decide([failing(2, 'starting')]).step).toBe('wait');
    expect(decide([failing(2, 'failed')])).toEqual({
      step: 'drop',
      text: 'its replicas failed to start 3 times: ImportError: no module named x',
    });
    expect(decide([failing(3, 'starting')]).step).toBe('drop');
  });

  it('waits for others while one serves, and then takes over with what there is', () => {
    const mixed = [
      report([replica({ state: 'ready' }), replica({ state: 'failed', restarts: 7, reason: 'oom' })]),
    ];
    expect(decide(mixed, 2).step).toBe('wait');
    expect(decide(mixed, 2, 1000)).toEqual({
      step: 'activate',
      text: '1 of 2 replicas ready after 1 s: oom',
    });
  });

  it('does not count the restarts of a replica that is ready now', () => {
    expect(decide([report([replica({ state: 'ready', restarts: 9 })])]).step).toBe('activate');
  });

  it('is dropped when nothing was ready in time, also where no worker ever began', () => {
    expect(decide([report([replica()])], 1, 999).step).toBe('wait');
    expect(decide([report([replica()])], 1, 1000)).toEqual({
      step: 'drop',
      text: 'no replica was ready after 1 s',
    });
    expect(decide([], 1, 1000).step).toBe('drop');
    const refused = report([], { reason: 'no GPU here' });
    expect(decide([refused], 1, 1000).text).toBe('no replica was ready after 1 s: no GPU here');
  });

  it('is never dropped while a replica of it is ready, and never activated without one', () => {
    const facts = fc.record({
      state: fc.constantFrom('starting' as const, 'ready' as const, 'failed' as const, 'stopping' as const),
      restarts: fc.nat(5),
    });
    const reports = fc.array(
      fc.array(facts, { maxLength: 4 }).map((list) => report(list.map(replica))),
      { maxLength: 4 },
    );
    fc.assert(
      fc.property(reports, fc.nat(6), fc.nat(2000), (told, minReplicas, now) => {
        const { step } = decide(told, minReplicas, now);
        const total = told.reduce((sum, one) => sum + one.ready, 0);
        if (step === 'drop') expect(total).toBe(0);
        if (step === 'activate') expect(total).toBeGreaterThan(0);
        if (now >= 1000) expect(step).not.toBe('wait');
        if (total >= Math.max(1, minReplicas)) expect(step).toBe('activate');
      }),
    );
  });
});
