import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Batcher, CALL_SAFETY_ROWS, type TakenBatch } from '../../../services/buffer/batcher.ts';
import type { Batching } from '../../../shared/domain/function.ts';

const batching = (overrides: Partial<Batching> = {}): Batching => ({
  sizeRows: 10,
  durationMs: 100,
  bytesMax: 1000,
  ...overrides,
});

const call = (callId: number, rows: number, arrivedAt = 0, rowBytes = 1) => ({
  callId,
  from: 0,
  end: rows,
  rowBytes,
  arrivedAt,
});

describe('Batcher', () => {
  it('is due by size and cuts exactly at it, splitting the call that crosses it', () => {
    const batcher = new Batcher(batching());
    batcher.add(call(1, 7));
    expect(batcher.due(0)).toBeNull();
    batcher.add(call(2, 7));
    expect(batcher.due(0)).toBe('size');
    expect(batcher.take(0)).toMatchObject({
      rows: 10,
      reason: 'size',
      slices: [
        { callId: 1, from: 0, count: 7 },
        { callId: 2, from: 0, count: 3 },
      ],
    });
    expect(batcher.rows).toBe(4);
    expect(batcher.due(99)).toBeNull();
    expect(batcher.take(100)).toMatchObject({
      rows: 4,
      reason: 'age',
      slices: [{ callId: 2, from: 3, count: 4 }],
    });
    expect(batcher.nextDeadline()).toBeNull();
  });

  it('counts age from the oldest row, also of a call that is already partly sealed', () => {
    const batcher = new Batcher(batching());
    batcher.add(call(1, 3, 40));
    batcher.add(call(2, 3, 90));
    expect(batcher.nextDeadline()).toBe(140);
    expect(batcher.due(139)).toBeNull();
    expect(batcher.due(140)).toBe('age');
  });

  it('goes on filling after it is due by age, until it is taken', () => {
    const batcher = new Batcher(batching());
    batcher.add(call(1, 3, 0));
    expect(batcher.due(150)).toBe('age');
    expect(batcher.full(150)).toBe(false);
    batcher.add(call(2, 20, 150));
    expect(batcher.full(150)).toBe(true);
    expect(batcher.take(150)).toMatchObject({ rows: 10, reason: 'size' });
  });

  it('is due by bytes, keeps below them, and lets a single larger row go alone', () => {
    const batcher = new Batcher(batching({ bytesMax: 100, sizeRows: 1000 }));
    batcher.add(call(1, 5, 0, 30));
    expect(batcher.due(0)).toBe('bytes');
    expect(batcher.take(0)).toMatchObject({ rows: 3, reason: 'bytes' });
    batcher.add(call(2, 2, 0, 500));
    expect(batcher.take(0)).toMatchObject({ slices: [{ callId: 1, from: 3, count: 2 }] });
    expect(batcher.take(0)).toMatchObject({
      rows: 1,
      reason: 'bytes',
      slices: [{ callId: 2, from: 0, count: 1 }],
    });
    expect(batcher.take(0)).toMatchObject({ rows: 1, slices: [{ callId: 2, from: 1, count: 1 }] });
  });

  it('delivers calls as they came when there is no buffering, cut at the safety limit', () => {
    const batcher = new Batcher(batching({ sizeRows: null, durationMs: 0 }));
    batcher.add(call(1, 3));
    batcher.add(call(2, CALL_SAFETY_ROWS + 5, 0, 0));
    expect(batcher.take(0)).toMatchObject({ reason: 'call', slices: [{ callId: 1, from: 0, count: 3 }] });
    expect(batcher.take(0)).toMatchObject({ rows: CALL_SAFETY_ROWS });
    expect(batcher.take(0)).toMatchObject({ rows: 5 });
    expect(batcher.take(0)).toBeNull();
  });

  it('drops a cancelled call and counts the age of the next one', () => {
    const batcher = new Batcher(batching());
    batcher.add(call(1, 8, 0));
    batcher.add(call(2, 8, 50));
    batcher.drop(1);
    expect(batcher.rows).toBe(8);
    expect(batcher.nextDeadline()).toBe(150);
    batcher.drop(2);
    expect(batcher.nextDeadline()).toBeNull();
  });

  it('takes new limits from the next batch on', () => {
    const batcher = new Batcher(batching());
    batcher.add(call(1, 30));
    expect(batcher.take(0)?.rows).toBe(10);
    batcher.update(batching({ sizeRows: 4 }));
    expect(batcher.take(0)?.rows).toBe(4);
  });

  it('makes the rest due at once when its version gets no new rows', () => {
    const batcher = new Batcher(batching());
    batcher.add(call(1, 3));
    batcher.drain(true);
    expect(batcher.take(0)).toMatchObject({ rows: 3, reason: 'drain' });
  });
});

/** A command of the property: `add` rows, `drop` a call, or `take` after some time. */
const commands = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('add' as const),
        rows: fc.integer({ min: 1, max: 40 }),
        rowBytes: fc.integer({ min: 0, max: 60 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), pick: fc.nat(50) }) },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('take' as const), waitMs: fc.integer({ min: 0, max: 80 }) }),
    },
  ),
  { maxLength: 120 },
);

describe('Batcher, for any sequence of adds, drops and takes', () => {
  it('gives every kept row once, in order, and never breaks a limit', () => {
    fc.assert(
      fc.property(
        commands,
        fc.record({
          sizeRows: fc.option(fc.integer({ min: 1, max: 30 })),
          durationMs: fc.integer({ min: 0, max: 100 }),
          bytesMax: fc.integer({ min: 1, max: 500 }),
        }),
        (steps, limits) => {
          const batcher = new Batcher(limits);
          const expected = new Map<number, { next: number; end: number; rowBytes: number }>();
          let now = 0;
          let lastId = 0;
          const check = (batch: TakenBatch): void => {
            const rows = batch.slices.reduce((sum, slice) => sum + slice.count, 0);
            const bytes = batch.slices.reduce(
              (sum, slice) => sum + slice.count * expected.get(slice.callId)!.rowBytes,
              0,
            );
            expect(rows).toBe(batch.rows);
            expect(rows).toBeGreaterThan(0);
            expect(rows).toBeLessThanOrEqual(limits.sizeRows ?? CALL_SAFETY_ROWS);
            if (rows > 1) expect(bytes).toBeLessThanOrEqual(limits.bytesMax);
            let previous = 0;
            for (const slice of batch.slices) {
              const state = expected.get(slice.callId)!;
              expect(slice.from).toBe(state.next);
              expect(slice.callId).toBeGreaterThan(previous);
              previous = slice.callId;
              state.next += slice.count;
              expect(state.next).toBeLessThanOrEqual(state.end);
            }
          };
          for (const step of steps) {
            if (step.kind === 'add') {
              lastId += 1;
              batcher.add({
                callId: lastId,
                from: 0,
                end: step.rows,
                rowBytes: step.rowBytes,
                arrivedAt: now,
              });
              expected.set(lastId, { next: 0, end: step.rows, rowBytes: step.rowBytes });
            } else if (step.kind === 'drop') {
              batcher.drop(step.pick);
              const state = expected.get(step.pick);
              if (state) state.end = state.next;
            } else {
              now += step.waitMs;
              for (let batch = batcher.take(now); batch; batch = batcher.take(now)) check(batch);
              expect(batcher.due(now)).toBeNull();
            }
            const waiting = [...expected.values()].reduce((sum, state) => sum + state.end - state.next, 0);
            expect(batcher.rows).toBe(waiting);
          }
          now += 1000;
          for (let batch = batcher.take(now); batch; batch = batcher.take(now)) check(batch);
          for (const state of expected.values()) expect(state.next).toBe(state.end);
        },
      ),
    );
  });
});
