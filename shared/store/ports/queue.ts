/**
 * The queue port: 14 verbs, each one atomic transition. Every store passes the suite in test/contract.
 *
 *   admit ─► (waiting) ─ seal ─► sealed ─ lease ─► leased ─ settle ─► settled
 *                │                 ▲                │  │
 *              cancel              ├── release ─────┘  └── settle with `retry` / `split`: sealed again
 *              expired             └── expired (lease lost: a claim is spent)
 *
 * A call's waiting rows are always its tail: rows are sealed front to back, so [sealedRows, rows) waits.
 * All times are wall-clock milliseconds given by the caller of a verb as `now`; the store reads no clock.
 */
import type {
  BatchMode,
  Call,
  CallStatus,
  Outcome,
  Payload,
  RowCounts,
  SealReason,
  Slice,
} from '../../domain/call.ts';
import type { ErrorCode } from '../../errors/catalogue.ts';

/** The medium a 202 promises: `fsync` embedded, `memory` only when asked for, `redis:…` with the server's own words. */
export type Durability = string;

export type Admission = {
  readonly now: number;
  readonly functionName: string;
  readonly versionId: number;
  readonly apiKeyId: number;
  readonly lane: string;
  readonly priority: number;
  readonly deadlineAt: number | null;
  readonly rows: number;
  readonly bytes: number;
  /** Rows of different keys never share a batch; '' where the function declares all its types. */
  readonly schemaKey: string;
  readonly payload: Payload;
  readonly idempotency: { readonly key: string; readonly bodyDigest: string } | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly traceparent: string | null;
  /** The admitting client will watch the call's end: its `watch` for this call then costs no message and misses nothing. */
  readonly watch?: boolean;
};

/**
 * `attached`: the idempotency key named a call with the same body. Refusals are SluiceErrors of the catalogue:
 * idempotency_mismatch (422), queue_full (429), payload_too_large (413: alone more than the limits), disk_full (507),
 * function_not_found (404).
 */
export type Admitted = { readonly callId: number; readonly attached: boolean; readonly status: CallStatus };

/** What the buffer needs to know of waiting rows; one entry a call. */
export type WaitingCall = {
  readonly callId: number;
  readonly versionId: number;
  /** First waiting row; rows before it are sealed. */
  readonly from: number;
  /** Waiting rows: the call's rows from `from` to its end. */
  readonly rows: number;
  /** Payload bytes of the whole call (from + rows rows). */
  readonly bytes: number;
  readonly arrivedAt: number;
  readonly deadlineAt: number | null;
  readonly priority: number;
  readonly lane: string;
  readonly schemaKey: string;
};

export type OpenQuery = { readonly versionId: number | null; readonly after: number; readonly limit: number };
export type OpenPage = { readonly calls: readonly WaitingCall[]; readonly next: number | null };

/**
 * The slots of one worker for one version, absolute: `idle` run at once, `prefetch` take a full batch ahead.
 * A lease takes one off by itself. The offer ends at `until` (a dead worker starves no buffer).
 */
export type Offer = {
  readonly now: number;
  readonly workerId: string;
  readonly versionId: number;
  readonly idle: number;
  readonly prefetch: number;
  readonly until: number;
};

/** Slots minus batches that are sealed and ready and not leased; what the buffer may still seal. */
export type FreeSlots = { readonly versionId: number; readonly idle: number; readonly prefetch: number };

export type SealRequest = {
  readonly now: number;
  readonly versionId: number;
  readonly slices: readonly Slice[];
  readonly reason: SealReason;
  /** Of the ownership of the function's buffer; '' on a store that has one owner for ever. */
  readonly fence: string;
};

/**
 * Slices of calls that are cancelled, expired, gone, or whose waiting tail does not begin at `from` are refused;
 * the others are sealed. `batchId` is null when none was left.
 */
export type Sealed = {
  /** True: another owns the function's buffer by now; nothing was sealed and nothing is refused. */
  readonly fenced: boolean;
  readonly batchId: number | null;
  readonly refused: readonly Slice[];
  readonly free: FreeSlots;
};

export type LeaseRequest = {
  readonly now: number;
  readonly workerId: string;
  readonly versionId: number;
  readonly leaseMs: number;
  /** Batches at most in this answer. */
  readonly max: number;
};

export type BatchCall = {
  readonly callId: number;
  readonly rows: number;
  readonly payload: Payload;
  readonly arrivedAt: number;
  readonly deadlineAt: number | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly traceparent: string | null;
};

/** The slices that are still to run; what was cancelled or expired has left with an outcome of its own. */
export type LeasedBatch = {
  readonly batchId: number;
  readonly versionId: number;
  readonly token: string;
  /** Handler runs that ended in an exception or a timeout so far. */
  readonly attempts: number;
  /** Leases lost without an answer so far. */
  readonly claims: number;
  readonly mode: BatchMode;
  readonly reason: SealReason;
  readonly leaseUntil: number;
  readonly slices: readonly Slice[];
  /** One entry a distinct call of `slices`. */
  readonly calls: readonly BatchCall[];
};

export type LeaseRef = { readonly batchId: number; readonly token: string };

export type ExtendRequest = {
  readonly now: number;
  readonly leaseMs: number;
  readonly leases: readonly LeaseRef[];
};

/** A part of a failed batch that runs again. */
export type Continuation = {
  readonly slices: readonly Slice[];
  readonly attempts: number;
  readonly claims: number;
  readonly mode: BatchMode;
  /** Not leased before this time. */
  readonly notBefore: number;
};

/**
 * Outcomes and continuations together cover the batch's leased slices exactly, else the settle is a bug and throws.
 * One continuation with the batch's own remaining slices keeps the batch's id (a retry); several are new batches.
 */
export type Settlement = {
  readonly now: number;
  readonly batchId: number;
  readonly token: string;
  readonly outcomes: readonly Outcome[];
  /** Arrow stream with the output rows that `ok` outcomes point into; null when none is ok. */
  readonly output: Uint8Array | null;
  readonly continuations: readonly Continuation[];
  readonly startedAt: number;
  readonly handlerMs: number;
};

/** `stale`: the token is not current; nothing was committed, the conflict was counted. */
export type SettleAnswer = { readonly accepted: boolean; readonly stale: boolean };

/** What a lost lease becomes: decided by shared/domain/retry.ts from the claims. */
export type ExpiredQuery = {
  readonly now: number;
  readonly claimsMax: number;
  /** Leases, deadlines and retries handled at most in one transaction. */
  readonly limit: number;
  /**
   * How often holders extend their leases. Where this client has not looked for about as long (it or the store was away), or
   * has just taken the function, leases end only after there was time for it, or three leases late. Left out: they end at once.
   */
  readonly heartbeatMs?: number;
};
export type ExpiredAnswer = {
  readonly leases: number;
  readonly calls: number;
  /** True when the limit cut the work: call again. */
  readonly more: boolean;
  /** The earliest time at which something falls due, null when nothing does. */
  readonly nextAt: number | null;
};

export type ListQuery = {
  readonly functionName: string | null;
  readonly status: CallStatus | null;
  /** null: calls of every key (admin). */
  readonly apiKeyId: number | null;
  readonly before: number | null;
  readonly limit: number;
};
export type CallPage = { readonly calls: readonly Call[]; readonly next: number | null };

/** A run of a call's rows and where its answer lies. Parts come in row order without gaps. */
export type ResultPart =
  | {
      readonly state: 'ok';
      readonly from: number;
      readonly count: number;
      readonly output: OutputRef;
      readonly outputRow: number;
    }
  | {
      readonly state: 'failed';
      readonly from: number;
      readonly count: number;
      readonly error: import('../../domain/call.ts').RowError;
    }
  | { readonly state: 'cancelled' | 'expired' | 'pending'; readonly from: number; readonly count: number };

/** A batch's output: the same id is the same bytes, so that readers decode it once. */
export type OutputRef = { readonly batchId: number; readonly bytes: Uint8Array };

/** Parts from row `from` on, as many as fit in `bytesMax` of output (at least one). */
export type ResultQuery = { readonly callId: number; readonly from: number; readonly bytesMax: number };
export type ResultPage = {
  readonly call: Call;
  readonly parts: readonly ResultPart[];
  readonly next: number | null;
};

/** One call, or all unfinished calls of a function (purge). Rows that run are cancelled too; their late answers are dropped. */
export type CancelQuery =
  | { readonly now: number; readonly callId: number }
  | { readonly now: number; readonly functionName: string };
export type CancelAnswer = { readonly calls: number; readonly rows: number };

/** What a finished or advanced call tells its watchers; `parts` are there when the whole result is small. */
export type CallEvent = {
  readonly callId: number;
  readonly status: CallStatus;
  readonly rows: number;
  readonly counts: RowCounts;
  readonly queueMs: number | null;
  readonly handlerMs: number;
  readonly parts: readonly ResultPart[] | null;
};

export type StoreEvents = {
  /** New waiting rows (a notification holds many). */
  readonly waiting: readonly WaitingCall[];
  /** Free worker slots changed. */
  readonly slots: FreeSlots;
  /** A batch of this version is sealed and ready to lease. */
  readonly ready: { readonly versionId: number };
  /** These calls are cancelled or expired: the buffer drops their rows, hosts abort batches that hold nothing else. */
  readonly ended: readonly number[];
  /** A function was deployed, changed, paused, resumed or deleted. `hasMoved`: waiting calls went to another version, maybe untold. */
  readonly functions: { readonly name: string; readonly hasMoved: boolean };
  /** Progress or end of one watched call. */
  readonly call: CallEvent;
  /** The store's data was lost, replaced or moved elsewhere: no call that is watched will end here, and every verb is refused with this. */
  readonly lost: { readonly code: ErrorCode; readonly detail: string };
};

/**
 * `callId` is required for `call` and absent for the others. `interest`: of a call, its end alone, or its end and then its
 * result, which a store may read ahead; absent: each advance. A store may tell of more than that.
 */
export type WatchQuery<K extends keyof StoreEvents> = {
  readonly kind: K;
  readonly callId?: number;
  readonly interest?: 'end' | 'result';
};
export type Unwatch = () => void;
/** Told once, where the watched call itself was lost while its store serves on; nothing else is told of it then. */
export type LostListener = (why: StoreEvents['lost']) => void;

export interface QueueStore {
  /** Changes when the store's data is lost or replaced; every outside call id carries it. */
  readonly generation: string;
  /** What holds now: the settings of a server may change. */
  readonly durability: Durability;
  admit(admission: Admission): Promise<Admitted>;
  open(query: OpenQuery): Promise<OpenPage>;
  offer(offer: Offer): Promise<void>;
  seal(request: SealRequest): Promise<Sealed>;
  lease(request: LeaseRequest): Promise<readonly LeasedBatch[]>;
  extend(request: ExtendRequest): Promise<{ readonly lost: readonly number[] }>;
  /** Hands a batch back at no cost (a drain). False when the token is stale. */
  release(lease: LeaseRef & { readonly now: number }): Promise<boolean>;
  settle(settlement: Settlement): Promise<SettleAnswer>;
  expired(query: ExpiredQuery): Promise<ExpiredAnswer>;
  /**
   * undefined: never existed; 'gone': its retention has passed (410, later 404).
   * @throws SluiceError `data_lost` where the call was accepted and lost; so does `result`
   */
  call(callId: number): Promise<Call | 'gone' | undefined>;
  list(query: ListQuery): Promise<CallPage>;
  watch<K extends keyof StoreEvents>(
    query: WatchQuery<K>,
    listener: (event: StoreEvents[K]) => void,
    onLost?: LostListener,
  ): Unwatch;
  result(query: ResultQuery): Promise<ResultPage | 'gone' | undefined>;
  cancel(query: CancelQuery): Promise<CancelAnswer>;
}
