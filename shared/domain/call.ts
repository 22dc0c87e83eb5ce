/** The words of calls, slices, batches and outcomes. Ids are sequential integers inside the store. */

export type CallStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled' | 'expired';

export const isFinished = (status: CallStatus): boolean => status !== 'pending' && status !== 'running';

/** A contiguous run of one call's rows. */
export type Slice = { readonly callId: number; readonly from: number; readonly count: number };

export type RowCounts = {
  readonly ok: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly expired: number;
};

/** Why a batch was sealed. `call`: no buffering, the call goes as it came. */
export type SealReason = 'size' | 'bytes' | 'age' | 'drain' | 'call';

/** `isolate`: this batch is a part of a failed one; its failure is final for a single row and splits several. */
export type BatchMode = 'fresh' | 'retry' | 'isolate';

export type RowError = {
  /** A code of the error catalogue: `handler_error`, `call_timeout`, `row_quarantined`, … */
  readonly code: string;
  readonly message: string;
  /** The exception's class name, where there was one. */
  readonly kind?: string;
  readonly traceback?: string;
};

/**
 * What became of a run of rows. `ok` rows lie in the settlement's output from `outputRow` on.
 */
export type Outcome =
  | (Slice & { readonly state: 'ok'; readonly outputRow: number })
  | (Slice & { readonly state: 'failed'; readonly error: RowError })
  | (Slice & { readonly state: 'cancelled' | 'expired' });

/** A call's payload as it is stored: small JSON calls as their columns' values, all others as an Arrow stream. */
export type Payload =
  /** JSON text of an array with one array of values per input column, in schema order. */
  | { readonly kind: 'json'; readonly text: string }
  /** One Arrow IPC stream, verified, uncompressed. */
  | { readonly kind: 'arrow'; readonly bytes: Uint8Array };

export type Call = {
  readonly id: number;
  readonly functionName: string;
  readonly versionId: number;
  readonly versionDigest: string;
  /** 0: no key (the server runs without keys). */
  readonly apiKeyId: number;
  readonly lane: string;
  readonly priority: number;
  readonly rows: number;
  readonly bytes: number;
  readonly status: CallStatus;
  readonly counts: RowCounts;
  /** Wall-clock milliseconds since the epoch, as all `…At`. */
  readonly arrivedAt: number;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
  readonly deadlineAt: number | null;
  /** When the result goes; null while the call is unfinished. */
  readonly expiresAt: number | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly traceparent: string | null;
  /** From arrival to the first handler run, and the handler time of its batches, in milliseconds. */
  readonly queueMs: number | null;
  readonly handlerMs: number;
};
