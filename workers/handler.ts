/**
 * The one handler port. A batch goes in as Arrow streams, an answer comes back; what it means for rows and retries is
 * decided by the host, so an adapter (a child process, an HTTP engine, a gRPC image) knows nothing of leases.
 */

import type { InputStream } from '../shared/arrow/index.ts';
import type { RowError } from '../shared/domain/call.ts';
import type { RefusedRow } from '../shared/domain/retry.ts';

export type HandlerBatch = {
  readonly rows: number;
  /** One or more Arrow IPC streams in row order; together they have `rows` rows. */
  readonly parts: readonly InputStream[];
};

export type HandlerCall = {
  readonly callId: string;
  readonly rows: number;
  readonly metadata: Readonly<Record<string, string>>;
};

export type HandlerContext = {
  readonly functionName: string;
  readonly version: string;
  readonly batchId: number;
  /** 1 for the first run. */
  readonly attempt: number;
  /** The calls whose rows the batch holds; empty unless the handler wants them. */
  readonly calls: readonly HandlerCall[];
  /** Wall-clock milliseconds; null without a deadline. */
  readonly deadlineAt: number | null;
  readonly traceparent: string | null;
};

/** A handler's answer for some rows: an Arrow stream with one column, and the rows that it refused (null there). */
export type HandlerOutput = {
  readonly rows: number;
  readonly stream: Uint8Array;
  readonly refused: readonly RefusedRow[];
};

export type HandlerAnswer =
  /** Outputs in row order: one, or a generator's sub-batches. */
  | { readonly end: 'ok'; readonly outputs: readonly HandlerOutput[] }
  | {
      readonly end: 'error';
      readonly error: RowError;
      readonly mro: readonly string[];
      /** Another run would fail alike. */
      readonly isFinal?: boolean;
      /** Whoever answered wants to be left alone for so long. */
      readonly retryAfterMs?: number;
      readonly outputs?: readonly HandlerOutput[];
    }
  /** The handler died under this batch. `outputs` here and above: sub-batches that a generator had yielded before. */
  | { readonly end: 'crash'; readonly error: RowError; readonly outputs?: readonly HandlerOutput[] }
  /** The handler died, or was stopped, before it began this batch; or the batch was withdrawn. */
  | { readonly end: 'unstarted' };

export interface Handler {
  /** True when the context's calls are wanted; building them costs a little for each call. */
  readonly wantsCalls: boolean;
  /**
   * Runs a batch. Batches run one at a time in the order of these calls; `begun` is called when this one's turn comes.
   * The signal says that the answer is not wanted any more: a handler may stop early, and answers all the same.
   * Never rejects.
   */
  run(
    batch: HandlerBatch,
    context: HandlerContext,
    signal: AbortSignal,
    begun: () => void,
  ): Promise<HandlerAnswer>;
  /**
   * Gives back what waits behind the batch that runs: each is answered `unstarted` as soon as it is certain that it does not
   * begin. One that has begun, known here or not, runs on and is answered as ever.
   */
  withdraw(): void;
}
