/** Counts of what was admitted, by whichever door it came. */
import { metrics } from '../../shared/runtime/metrics.ts';
import type { Admission, Admitted } from '../../shared/store/ports/queue.ts';

type Counts = { readonly calls: { inc(): void }; readonly rows: { inc(by: number): void } };

/** Labelled counters are looked up by name once, since hashing labels costs more than counting. */
const counts = new Map<string, Counts>();

/** What attached to a call that was there already is no new one. */
export const countAdmitted = (
  { functionName, rows }: Pick<Admission, 'functionName' | 'rows'>,
  { attached }: Admitted,
): void => {
  if (attached) return;
  let found = counts.get(functionName);
  if (found === undefined) {
    found = {
      calls: metrics.callsAdmitted.labels(functionName),
      rows: metrics.rowsAdmitted.labels(functionName),
    };
    counts.set(functionName, found);
  }
  found.calls.inc();
  found.rows.inc(rows);
};
