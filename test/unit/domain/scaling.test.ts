/** How many replicas: what always holds, whatever the load, and the cases that a person would ask about. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  mostReplicas,
  newHistory,
  partWithTry,
  plainScaling,
  type Scaling,
  type ScalingLoad,
  type ScalingQuery,
  share,
  sharesWithin,
  wantedReplicas,
} from '../../../shared/domain/scaling.ts';

const NONE: ScalingLoad = { waitingRows: 0, runningRows: 0, oldestMs: null };
const rows = (waitingRows: number): ScalingLoad => ({ waitingRows, runningRows: 0, oldestMs: 0 });
const scaling = (changes: Partial<Scaling> = {}): Scaling => ({
  ...plainScaling({ min: 1, max: 10 }),
  targetRows: 10,
  scaleDownMs: 1000,
  idleMs: 500,
  ...changes,
});

const query = (changes: Partial<ScalingQuery> = {}): ScalingQuery => ({
  scaling: scaling(),
  batchRows: 8,
  load: NONE,
  cpuPercent: null,
  current: 1,
  ready: changes.current ?? 1,
  history: newHistory(0, changes.current ?? 1),
  now: 0,
  ...changes,
});

/** A function that is looked at every 100 ms, all of whose replicas are ready at once. */
class Watched {
  now = 0;
  replicas: number;
  readonly #scaling: Scaling;
  history;

  constructor(of: Scaling, replicas = of.minReplicas) {
    this.#scaling = of;
    this.replicas = replicas;
    this.history = newHistory(0, replicas);
  }

  look(load: ScalingLoad, cpuPercent: (ready: number) => number | null = () => null): number {
    this.now += 100;
    const { replicas: current, now } = this;
    const decision = wantedReplicas(
      query({
        scaling: this.#scaling,
        load,
        current,
        ready: current,
        history: this.history,
        now,
        cpuPercent: cpuPercent(current),
      }),
    );
    this.history = decision.history;
    this.replicas = decision.replicas;
    return this.replicas;
  }
}

const anyScaling = fc
  .record({
    minReplicas: fc.integer({ min: 0, max: 5 }),
    above: fc.integer({ min: 0, max: 20 }),
    targetRows: fc.option(fc.integer({ min: 1, max: 100 })),
    targetWaitMs: fc.option(fc.integer({ min: 1, max: 1000 })),
    targetCpuPercent: fc.option(fc.integer({ min: 1, max: 100 })),
    scaleDownMs: fc.integer({ min: 0, max: 3000 }),
    idleMs: fc.integer({ min: 0, max: 3000 }),
  })
  .map(({ above, ...of }): Scaling => ({ ...of, maxReplicas: Math.max(1, of.minReplicas + above) }));
const anyLoad = fc.record({
  waitingRows: fc.integer({ min: 0, max: 5000 }),
  runningRows: fc.integer({ min: 0, max: 500 }),
  oldestMs: fc.option(fc.integer({ min: 0, max: 5000 })),
});
const anyCpu = fc.option(fc.integer({ min: 0, max: 800 }));
const anyQuery = fc
  .record({
    scaling: anyScaling,
    batchRows: fc.integer({ min: 1, max: 100 }),
    load: anyLoad,
    cpuPercent: anyCpu,
    current: fc.integer({ min: 0, max: 30 }),
    missing: fc.integer({ min: 0, max: 5 }),
    past: fc.array(
      fc.record({ ago: fc.integer({ min: 0, max: 5000 }), replicas: fc.integer({ min: 0, max: 30 }) }),
    ),
    busyAgoMs: fc.integer({ min: 0, max: 5000 }),
  })
  .map(({ missing, past, busyAgoMs, ...of }): ScalingQuery => {
    const now = 10_000;
    const ordered = past.toSorted((a, b) => b.ago - a.ago);
    return {
      ...of,
      ready: Math.max(0, of.current - missing),
      history: {
        past: ordered.map(({ ago, replicas }) => ({ at: now - ago, replicas })),
        busyAt: now - busyAgoMs,
      },
      now,
    };
  });

describe('whatever the load', () => {
  it('stays within the bounds', () => {
    fc.assert(
      fc.property(anyQuery, (of) => {
        const { replicas } = wantedReplicas(of);
        expect(replicas).toBeGreaterThanOrEqual(of.scaling.minReplicas);
        expect(replicas).toBeLessThanOrEqual(of.scaling.maxReplicas);
      }),
    );
  });

  it('never wants fewer for more rows, older rows or more CPU', () => {
    const more = fc.record({
      waitingRows: fc.nat(1000),
      runningRows: fc.nat(1000),
      oldestMs: fc.nat(1000),
      cpu: fc.nat(400),
    });
    fc.assert(
      fc.property(anyQuery, more, (of, add) => {
        const { waitingRows, runningRows, oldestMs } = of.load;
        const busier = {
          ...of,
          load: {
            waitingRows: waitingRows + add.waitingRows,
            runningRows: runningRows + add.runningRows,
            oldestMs: oldestMs === null ? null : oldestMs + add.oldestMs,
          },
          cpuPercent: of.cpuPercent === null ? null : of.cpuPercent + add.cpu,
        };
        expect(wantedReplicas(busier).replicas).toBeGreaterThanOrEqual(wantedReplicas(of).replicas);
      }),
    );
  });

  it('has a replica for a row that waits, where it may have any', () => {
    fc.assert(
      fc.property(anyQuery, (of) => {
        const { waitingRows, runningRows } = of.load;
        fc.pre(waitingRows + runningRows > 0);
        expect(wantedReplicas(of).replicas).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  it('takes away nothing that the load was worth within the window', () => {
    fc.assert(
      fc.property(anyQuery, (of) => {
        const within = of.history.past.filter(({ at }) => of.now - at < of.scaling.scaleDownMs);
        const worth = Math.max(0, ...within.map(({ replicas }) => replicas));
        fc.pre(worth > 1 && of.current > 1);
        const held = Math.min(worth, of.current, of.scaling.maxReplicas);
        expect(wantedReplicas(of).replicas).toBeGreaterThanOrEqual(held);
      }),
    );
  });

  it('comes to rest at a constant load, and moves in one direction on the way', () => {
    fc.assert(
      fc.property(anyScaling, anyLoad, anyCpu, fc.integer({ min: 0, max: 20 }), (of, load, work, start) => {
        const watched = new Watched(of, Math.min(Math.max(start, of.minReplicas), of.maxReplicas));
        // The same work for all replicas together: each has less when there are more.
        const cpu = (ready: number) => (work === null || ready === 0 ? null : work / ready);
        const seen = Array.from({ length: 200 }, () => watched.look(load, cpu));
        const moves = seen.slice(1).map((replicas, i) => Math.sign(replicas - seen[i]!));
        const turns = moves
          .filter((move) => move !== 0)
          .filter((move, i, all) => i > 0 && move !== all[i - 1]);
        // From a start above what the load is worth, CPU per replica rises as replicas go: one turn at most.
        expect(turns.length).toBeLessThanOrEqual(1);
        expect(new Set(seen.slice(-20)).size).toBe(1);
      }),
      { numRuns: 300 },
    );
  });

  it('remembers no more than its window needs', () => {
    const watched = new Watched(scaling({ scaleDownMs: 3_600_000 }));
    for (let i = 0; i < 10_000; i += 1) watched.look(rows(i % 100));
    expect(watched.history.past.length).toBeLessThanOrEqual(125);
  });
});

describe('up', () => {
  it('goes at once, by rows', () => {
    expect(wantedReplicas(query({ load: rows(41) }))).toMatchObject({ replicas: 5, cause: 'rows' });
    expect(wantedReplicas(query({ load: rows(4100) }))).toMatchObject({ replicas: 10, cause: 'max' });
  });

  it('counts two of the largest batches a replica where nothing is named', () => {
    const of = scaling({ targetRows: null });
    expect(wantedReplicas(query({ scaling: of, load: rows(16) })).replicas).toBe(1);
    expect(wantedReplicas(query({ scaling: of, load: rows(17) })).replicas).toBe(2);
  });

  it('goes by one when the oldest row has waited too long and all that were wanted are there', () => {
    const of = scaling({ targetWaitMs: 200 });
    const late: ScalingLoad = { waitingRows: 1, runningRows: 0, oldestMs: 201 };
    expect(wantedReplicas(query({ scaling: of, load: late, current: 3 }))).toMatchObject({
      replicas: 4,
      cause: 'wait',
    });
    expect(wantedReplicas(query({ scaling: of, load: late, current: 3, ready: 2 })).replicas).toBe(3);
    expect(wantedReplicas(query({ scaling: of, load: { ...late, oldestMs: 200 } })).replicas).toBe(1);
  });

  it('goes by CPU above its target, and not by the noise around it', () => {
    const of = scaling({ targetCpuPercent: 50 });
    const at = (cpuPercent: number) =>
      wantedReplicas(
        query({ scaling: of, load: rows(1), current: 4, cpuPercent, history: newHistory(-5000, 4) }),
      ).replicas;
    expect([at(100), at(54), at(46), at(25)]).toEqual([8, 4, 4, 2]);
  });
});

describe('down', () => {
  it('waits for the window', () => {
    const watched = new Watched(scaling());
    expect(watched.look(rows(50))).toBe(5);
    const seen = Array.from({ length: 12 }, () => watched.look(rows(1)));
    expect(seen.slice(0, 9)).toEqual(new Array(9).fill(5));
    expect(seen.at(-1)).toBe(1);
  });

  it('begins its window anew with each peak', () => {
    const watched = new Watched(scaling());
    for (let peak = 0; peak < 5; peak += 1) {
      watched.look(rows(50));
      for (let i = 0; i < 8; i += 1) expect(watched.look(rows(1))).toBe(5);
    }
  });

  it('reaches none after the idle time, and the first row brings one back', () => {
    const watched = new Watched(scaling({ minReplicas: 0, scaleDownMs: 0 }), 1);
    watched.look(rows(1));
    const seen = Array.from({ length: 6 }, () => watched.look(NONE));
    expect(seen).toEqual([1, 1, 1, 1, 0, 0]);
    expect(watched.look(rows(1))).toBe(1);
  });

  it('reaches none although the last replica is never quite still', () => {
    const watched = new Watched(scaling({ minReplicas: 0, scaleDownMs: 0, targetCpuPercent: 50 }), 1);
    watched.look(rows(1), () => 20);
    for (let i = 0; i < 6; i += 1) watched.look(NONE, () => 20);
    expect(watched.replicas).toBe(0);
  });
});

describe('a share', () => {
  it('adds up to the total, and differs by one at most', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer({ min: 1, max: 50 }), (total, workers) => {
        const shares = Array.from({ length: workers }, (_, rank) => share(total, rank, workers));
        expect(shares.reduce((sum, one) => sum + one, 0)).toBe(total);
        expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
      }),
    );
  });
});

describe('shares within what each worker can have', () => {
  const limits = fc.array(fc.oneof(fc.nat(5), fc.constant(Number.POSITIVE_INFINITY)), {
    minLength: 1,
    maxLength: 12,
  });

  it('add up to the total, and are even where they can', () => {
    fc.assert(
      fc.property(fc.nat(60), limits, (total, most) => {
        const parts = sharesWithin(total, most);
        expect(parts.reduce((sum, one) => sum + one, 0)).toBe(total);
        const all = most.reduce((sum, one) => sum + one, 0);
        if (all < total) {
          // Nobody lets go what it has for others who cannot have it.
          const more = most.map((one, rank) => one + share(total - all, rank, most.length));
          expect(parts).toEqual(more);
          return;
        }
        const free = parts.filter((part, rank) => part < most[rank]!);
        for (const [rank, part] of parts.entries()) expect(part).toBeLessThanOrEqual(most[rank]!);
        for (const part of free) expect(part).toBeGreaterThanOrEqual(Math.max(...parts) - 1);
      }),
    );
  });

  it('know a worker by replicas that cannot start, after three tries', () => {
    const failed = (restarts: number) => ({ state: 'failed' as const, restarts });
    const ready = { state: 'ready' as const, restarts: 9 };
    expect(mostReplicas([])).toBe(Number.POSITIVE_INFINITY);
    expect(mostReplicas([ready, failed(1)])).toBe(Number.POSITIVE_INFINITY);
    expect(mostReplicas([ready, failed(2), failed(0), { state: 'stopping', restarts: 0 }])).toBe(1);
    expect(mostReplicas([failed(2)])).toBe(0);
  });

  it('leave one try to who cannot have its part', () => {
    const free = Number.POSITIVE_INFINITY;
    expect([partWithTry(3, free, 6), partWithTry(0, free, 6)]).toEqual([3, 0]);
    expect([partWithTry(2, 2, 6), partWithTry(1, 2, 6)]).toEqual([3, 1]);
    expect([partWithTry(0, 0, 1), partWithTry(0, 0, 0), partWithTry(2, 0, 4)]).toEqual([1, 0, 2]);
  });
});
