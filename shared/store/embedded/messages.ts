/**
 * What crosses the ports. Hot verbs travel packed, many in one request (numbers in one typed array, texts in one list):
 * a structured clone of a thousand small objects costs more than their commit.
 */
import type { OutputRef, ResultPart } from '../ports/queue.ts';

/** now, versionId, keyId, rows, bytes, deadlineAt or NaN, watch 0|1 */
export const ADMIT_WIDTH = 7;
/** callId, status, attached 0|1; callId 0: refused, see `errors`. */
export const ADMITTED_WIDTH = 3;
/** Above this a payload goes to a segment: SQLite writes it twice (log and file), an append-only file once. */
export const INLINE_BYTES_MAX = 64 * 1024;
/** A JSON payload above that, as UTF-8: bytes reach a segment beside the store's thread. */
export type LargeText = { readonly utf8: Uint8Array };
export type PackedPayload = string | Uint8Array | LargeText;
export type AdmitRequest = {
  readonly numbers: Float64Array;
  readonly functions: readonly string[];
  readonly payloads: readonly PackedPayload[];
  readonly extras: readonly (string | null)[];
  readonly idempotency: readonly ({ readonly key: string; readonly bodyDigest: string } | null)[];
};
export type AdmitReply = {
  readonly numbers: Float64Array;
  readonly errors: readonly (ErrorMessage | null)[] | null;
};

export type SealMessage = {
  readonly now: number;
  readonly versionId: number;
  readonly slices: readonly number[];
  readonly reason: number;
};

/** id, rows, arrivedAt, deadlineAt or NaN */
export const LEASED_CALL_WIDTH = 4;
export type LeasedMessage = {
  readonly batchId: number;
  readonly versionId: number;
  readonly token: string;
  readonly attempts: number;
  readonly claims: number;
  readonly mode: number;
  readonly reason: number;
  readonly leaseUntil: number;
  readonly slices: readonly number[];
  readonly calls: readonly number[];
  readonly payloads: readonly (string | Uint8Array)[];
  readonly extras: readonly (string | null)[];
};

export type ContinuationMessage = {
  readonly slices: readonly number[];
  readonly attempts: number;
  readonly claims: number;
  readonly mode: number;
  readonly notBefore: number;
};
export type SettleMessage = {
  readonly now: number;
  readonly batchId: number;
  readonly token: string;
  /** OUTCOME_WIDTH numbers each; a failed one's place is its index in `errors`. */
  readonly outcomes: readonly number[];
  /** JSON of a RowError each, distinct. */
  readonly errors: readonly string[];
  readonly output: Uint8Array | null;
  readonly continuations: readonly ContinuationMessage[];
  readonly startedAt: number;
  readonly handlerMs: number;
};

/** callId, versionId, from, rows, bytes, arrivedAt, deadlineAt or NaN */
export const WAITING_WIDTH = 7;
/** A page of `open`: as a `waiting` event, with where to go on. */
export type OpenMessage = WaitingMessage & { readonly next: number | null };
export type WaitingMessage = { readonly numbers: number[]; readonly extras: (string | null)[] };

/** callId, status, rows, failed, cancelled, expired, unfinished, queueMs or NaN, handlerMs, output index or -1, output row */
export const CALL_EVENT_WIDTH = 11;
export type CallEventsMessage = {
  readonly numbers: number[];
  /** Outputs of calls whose whole result is one run of one batch. */
  readonly outputs: OutputRef[];
  /** Parts of the others, where they are small; by position. Absent at the end: null. */
  readonly parts: (readonly ResultPart[] | null)[];
};

export type EventMessage =
  | { readonly kind: 'waiting'; readonly value: WaitingMessage }
  | { readonly kind: 'calls'; readonly value: CallEventsMessage }
  | { readonly kind: 'slots' | 'ready' | 'ended' | 'functions'; readonly value: unknown };

/** A SluiceError, or (without a code) an invariant that broke. */
export type ErrorMessage = {
  readonly code: string | null;
  readonly detail: string;
  readonly extra: Readonly<Record<string, unknown>>;
};

/** id 0: no answer is wanted. */
export type Request = { readonly id: number; readonly verb: string; readonly args: unknown };
export type Reply = { readonly id: number; readonly value?: unknown; readonly error?: ErrorMessage };

export type ToStore = readonly Request[];
export type ToClient = { readonly replies: readonly Reply[]; readonly events: readonly EventMessage[] };
