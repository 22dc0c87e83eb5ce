/** One function's metrics, with their labels resolved once. */
import type { Outcome } from '../shared/domain/call.ts';
import { metrics } from '../shared/runtime/metrics.ts';

export type RunnerMetrics = {
  readonly ran: (end: string, handlerMs: number) => void;
  readonly settled: (outcomes: readonly Outcome[]) => void;
  readonly conflict: () => void;
  readonly restarted: (cause: string) => void;
};

export const runnerMetrics = (functionName: string): RunnerMetrics => {
  const handlerMs = metrics.handlerMs.labels(functionName);
  const ends = new Map<string, { inc(count?: number): void }>();
  const rows = new Map<string, { inc(count?: number): void }>();
  const conflicts = metrics.settleConflicts.labels(functionName);
  const once = (
    map: Map<string, { inc(count?: number): void }>,
    key: string,
    make: () => { inc(count?: number): void },
  ) => {
    const known = map.get(key) ?? make();
    map.set(key, known);
    return known;
  };
  return {
    ran: (end, ms) => {
      if (end === 'unstarted') return;
      once(ends, end, () => metrics.attempts.labels(functionName, end)).inc();
      handlerMs.observe(ms);
    },
    settled: (outcomes) => {
      const counts = new Map<string, number>();
      for (const { state, count } of outcomes) counts.set(state, (counts.get(state) ?? 0) + count);
      for (const [state, count] of counts) {
        once(rows, state, () => metrics.rowsSettled.labels(functionName, state)).inc(count);
      }
    },
    conflict: () => conflicts.inc(),
    restarted: (cause) => metrics.handlerRestarts.labels(functionName, cause).inc(),
  };
};
