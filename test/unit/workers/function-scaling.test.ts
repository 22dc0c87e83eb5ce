/** One function's total as each worker sees it, and the parts that they take. */
import { describe, expect, it } from 'vitest';
import type { FunctionRecord, ReplicaReport } from '../../../shared/domain/function.ts';
import { plainScaling, type Scaling } from '../../../shared/domain/scaling.ts';
import { FunctionScaling } from '../../../workers/function-scaling.ts';
import { nodeSpec, type SpecChanges } from './rig.ts';

const recordOf = (scaling: Scaling | null, changes: SpecChanges = {}, paused = false): FunctionRecord => {
  const current = { id: 1, digest: 'd', createdAt: 0, spec: nodeSpec('', changes) };
  const { name } = current.spec;
  return {
    id: 1,
    name,
    current,
    versions: [current],
    staged: null,
    scaling,
    paused,
    createdAt: 0,
    updatedAt: 0,
  };
};
const reportOf = (workerId: string, replicas: ReplicaReport['replicas'] = []): ReplicaReport => ({
  ...{ workerId, versionId: 1, ready: 0, starting: 0, failed: 0, reason: null, ignored: [], until: 1 },
  ...(replicas && { replicas }),
});
const refusalOf = (workerId: string): ReplicaReport => {
  const { replicas: _, ...refusal } = reportOf(workerId);
  return refusal;
};
const loadOf = (waitingRows: number, waitingCalls = waitingRows) => ({
  ...{
    functionName: 'f',
    waitingRows,
    sealedRows: 0,
    waitingCalls,
    endedRows: { ok: 0, failed: 0, cancelled: 0, expired: 0 },
    oldestAt: 0,
    oldestVersionId: 1,
    sealedVersions: [],
  },
});
const own = { versionId: 1, facts: [], lastBatchAt: 0 };

describe('a total', () => {
  const workers = ['a', 'b', 'c'];
  const parts = (total: number, name: string, reports: readonly ReplicaReport[]) =>
    workers.map((workerId) => {
      const scaling = new FunctionScaling(
        workerId,
        recordOf(plainScaling({ min: total, max: total }), { name }),
      );
      scaling.see(reports);
      return scaling.goal(1);
    });

  it('is shared by all who can run the version, the same by each', () => {
    const reports = workers.map((workerId) => reportOf(workerId));
    expect(parts(7, 'f', reports).toSorted()).toEqual([2, 2, 3]);
    expect(parts(2, 'f', reports).toSorted()).toEqual([0, 1, 1]);
  });

  it('leaves out who refuses it', () => {
    const reports = [reportOf('a'), reportOf('b'), refusalOf('c')];
    expect(parts(7, 'f', reports).slice(0, 2).toSorted()).toEqual([3, 4]);
  });

  it('goes to others where a worker cannot start its part, which goes on trying with one', () => {
    const replica = (state: 'ready' | 'failed', restarts = 2) => ({
      ...{ index: 0, state, since: 0, reason: null, place: null, devices: [] },
      ...{ restarts, runningRows: 0, cpuPercent: null, memoryBytes: null },
    });
    const reports = [reportOf('a', [replica('failed'), replica('failed')]), reportOf('b'), reportOf('c')];
    expect(parts(6, 'f', reports)).toEqual([1, 3, 3]);
    expect(parts(0, 'f', reports)).toEqual([0, 0, 0]);
    // It has room for one more than this worker has.
    expect(
      parts(9, 'f', [reportOf('a', [replica('ready'), replica('failed')]), ...reports.slice(1)]),
    ).toEqual([2, 4, 4]);
    // Nobody can: each keeps its part.
    const none = workers.map((workerId) => reportOf(workerId, [replica('failed')]));
    expect(parts(6, 'f', none)).toEqual([2, 2, 2]);
    expect(parts(1, 'f', none)).toEqual([1, 1, 1]);
    // Nor can the one that has most of them have more: it keeps those.
    const four = Array.from({ length: 4 }, () => replica('ready'));
    const full = [replica('failed')];
    const short = [reportOf('a', full), reportOf('b', [...four, ...full]), reportOf('c', full)];
    expect(parts(6, 'f', short)[1]).toBe(5);
  });

  it('of one lies with another worker for another function', () => {
    const reports = workers.map((workerId) => reportOf(workerId));
    const names = Array.from({ length: 60 }, (_, nth) => `f${nth}`);
    const holders = names.map((name) => parts(1, name, reports).indexOf(1));
    for (const nth of workers.keys())
      expect(holders.filter((holder) => holder === nth).length).toBeGreaterThan(5);
  });
});

describe('a load', () => {
  const wanted = (record: FunctionRecord, load: ReturnType<typeof loadOf>, reports: ReplicaReport[] = []) => {
    const scaling = new FunctionScaling('a', record);
    scaling.see(reports);
    return scaling.decide(load, own, 1).replicas;
  };
  const options = { replicas: { min: 0, max: 10 } };

  it('counts calls where each is a batch of its own', () => {
    const unbuffered = { ...options, batching: { sizeRows: null, durationMs: 0, bytesMax: 1 } };
    expect(wanted(recordOf(null, unbuffered), loadOf(1000, 8))).toBe(4);
    expect(wanted(recordOf(null, options), loadOf(1000, 8))).toBe(10);
  });

  it('is that of all workers, of which each has its part where the function counts by worker', () => {
    expect(wanted(recordOf(null, options), loadOf(64))).toBe(4);
    expect(wanted(recordOf(null, options), loadOf(64), [reportOf('b')])).toBe(2);
  });

  it('of a paused function keeps one replica, and asks for no more', () => {
    expect(wanted(recordOf(null, options, true), loadOf(1000))).toBe(1);
    expect(wanted(recordOf(null, options, true), loadOf(0))).toBe(0);
  });
});

describe('the CPU', () => {
  const readySince = (since: number) => ({
    ...{ index: 0, state: 'ready' as const, since, reason: null, place: null, devices: [] },
    ...{ restarts: 0, runningRows: 0, cpuPercent: 400, memoryBytes: null },
  });

  it('that a replica used to load its model asks for no more of them', () => {
    const scaling: Scaling = { ...plainScaling({ min: 1, max: 10 }), targetCpuPercent: 50 };
    const wantedAt = (now: number) => {
      const watched = new FunctionScaling('a', recordOf(scaling));
      watched.see([]);
      return watched.decide(loadOf(0), { ...own, facts: [readySince(1000)] }, now).replicas;
    };
    expect(wantedAt(3000)).toBe(1);
    expect(wantedAt(60_000)).toBe(8);
  });
});
