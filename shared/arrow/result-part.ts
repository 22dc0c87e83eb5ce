/** What the parts of a result look like here; the store's ResultPart is one of these. */
import type { RowError } from '../domain/call.ts';

type Run = { readonly from: number; readonly count: number };

/** A run of a call's rows and where its answer lies. */
export type ResultPart = Run &
  (
    | {
        readonly state: 'ok';
        readonly output: { readonly bytes: Uint8Array };
        readonly outputRow: number;
      }
    | { readonly state: 'failed'; readonly error: RowError }
    | { readonly state: 'cancelled' | 'expired' | 'pending' }
  );

/** A run of rows without an answer, as `errors` of a JSON result lists it. */
export type RowErrorRun = Run & RowError;

const MESSAGES = {
  cancelled: { code: 'row_cancelled', message: 'The row was cancelled.' },
  expired: { code: 'row_expired', message: "The call's deadline passed before the row ran." },
  pending: { code: 'row_unfinished', message: 'The row is not finished.' },
} as const;

/** The error of a part that is not ok. */
export const errorOf = (part: Exclude<ResultPart, { state: 'ok' }>): RowError =>
  part.state === 'failed' ? part.error : MESSAGES[part.state];

/** Joins parts whose rows follow each other in the same output: one batch instead of many. */
export function joinParts(parts: readonly ResultPart[]): readonly ResultPart[] {
  const out: ResultPart[] = [];
  for (const part of parts) {
    const last = out.at(-1);
    if (
      last?.state === 'ok' &&
      part.state === 'ok' &&
      last.output.bytes === part.output.bytes &&
      last.outputRow + last.count === part.outputRow
    )
      out[out.length - 1] = { ...last, count: last.count + part.count };
    else if (part.count > 0) out.push(part);
  }
  return out;
}
