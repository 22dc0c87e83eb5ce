/**
 * Moving everything that a store holds into another one (docs/decisions/0010). The source answers in its own ids; the
 * target gives new ones and keeps which was which, so that the ids that callers hold go on working.
 *
 *   source: serving ─ begin ─► leaving ─ leave ─► left          refuses to be served from `begin` on
 *   target: empty ─ arrive ─► arriving ─ finish ─► arrived      refuses to be served until `finish`
 *
 * Every step may be cut off and begun again: the source stays as it is, and the target knows how far it is.
 */
import type {
  BatchMode,
  CallStatus,
  Payload,
  RowCounts,
  RowError,
  SealReason,
  Slice,
} from '../../domain/call.ts';
import type { Batching, FunctionSpec } from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';
import type { ApiKey } from './keys.ts';

/** A call's id in a store that it was moved out of; `tag` is that store's, as outside ids carry it. */
export type FormerId = { readonly tag: string; readonly id: number };

export type MovedId = { readonly former: FormerId; readonly callId: number };

/** What a store knows of the ids that its calls had elsewhere. */
export interface Lineage {
  /** The call's id here; null when no such call was moved here. */
  resolve(former: FormerId): Promise<number | null>;
}

export type TransferVersion = {
  readonly id: number;
  readonly digest: string;
  readonly createdAt: number;
  /** As it was deployed: the digest is of this. */
  readonly spec: FunctionSpec;
  /** As live updates left it. */
  readonly batching: Batching;
  readonly removedAt: number | null;
};

export type TransferFunction = {
  readonly id: number;
  readonly name: string;
  readonly currentVersionId: number;
  /** `isNew`: it goes when it is dropped, since it was never current. */
  readonly staged: { readonly versionId: number; readonly isNew: boolean } | null;
  readonly scaling: Scaling | null;
  readonly paused: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Removed functions go along as long as finished calls name them. */
  readonly removedAt: number | null;
  /** Oldest first. */
  readonly versions: readonly TransferVersion[];
};

export type TransferKey = ApiKey & { readonly secretHash: string };

export type TransferPart =
  | {
      readonly state: 'ok';
      readonly from: number;
      readonly count: number;
      /** For the source's `output`; the same id is the same bytes. */
      readonly outputId: number;
      readonly outputRow: number;
    }
  | { readonly state: 'failed'; readonly from: number; readonly count: number; readonly error: RowError }
  | { readonly state: 'cancelled' | 'expired'; readonly from: number; readonly count: number };

export type TransferCall = {
  readonly id: number;
  readonly functionId: number;
  readonly versionId: number;
  readonly apiKeyId: number;
  readonly lane: string;
  readonly priority: number;
  readonly schemaKey: string;
  readonly rows: number;
  readonly bytes: number;
  readonly status: CallStatus;
  readonly counts: RowCounts;
  readonly arrivedAt: number;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
  readonly deadlineAt: number | null;
  readonly expiresAt: number | null;
  readonly handlerMs: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly traceparent: string | null;
  readonly idempotency: { readonly key: string; readonly bodyDigest: string } | null;
  /** null once the call is finished. */
  readonly payload: Payload | null;
  /** Rows before this one have an outcome or lie in an open batch; the rest waits. */
  readonly sealedRows: number;
  /** What has settled, in row order; of a finished call all its rows. */
  readonly parts: readonly TransferPart[];
};

export type TransferDocument = {
  /** The source may be newer, and have kinds that are not known here. */
  readonly kind: string;
  readonly key: string;
  /** It stays. */
  readonly revision: number;
  /** JSON. */
  readonly bytes: Uint8Array;
};

/** A sealed batch that is not settled. A lease on it is not moved: it ends with the source, at no cost to the rows. */
export type TransferBatch = {
  readonly id: number;
  readonly functionId: number;
  readonly versionId: number;
  readonly slices: readonly Slice[];
  readonly reason: SealReason;
  readonly mode: BatchMode;
  readonly attempts: number;
  readonly claims: number;
  readonly notBefore: number;
  readonly handlerMs: number;
};

/** Compared on both sides. Rows are those of calls; `open` rows have no outcome yet. */
export type TransferCounts = {
  readonly functions: number;
  readonly versions: number;
  readonly stagedVersions: number;
  /** Functions with a scaling of their own. */
  readonly scalings: number;
  readonly keys: number;
  readonly documents: number;
  readonly documentBytes: number;
  readonly unfinishedCalls: number;
  readonly finishedCalls: number;
  readonly idempotencyKeys: number;
  readonly openBatches: number;
  readonly rows: {
    readonly open: number;
    readonly ok: number;
    readonly failed: number;
    readonly cancelled: number;
    readonly expired: number;
  };
};

/** `last` below `first`: there is none. */
export type IdSpan = { readonly first: number; readonly last: number };

export type TransferHead = {
  /** The same for every run of one migration. */
  readonly id: string;
  /** The source's tag in outside call ids. */
  readonly tag: string;
  /** Where the source is, for messages. */
  readonly place: string;
  readonly functions: readonly TransferFunction[];
  readonly keys: readonly TransferKey[];
  /** No key of the target may get an id below it: calls carry the ids of revoked keys. */
  readonly nextKeyId: number;
  /** The highest that a document had; none gets one again. */
  readonly lastRevision: number;
  /** What the ids of calls, and of outputs and batches, lie between. */
  readonly callIds: IdSpan;
  readonly batchIds: IdSpan;
};

/** What the target has; null: nothing of that kind yet. */
export type TransferPosition = {
  readonly callId: number | null;
  readonly batchId: number | null;
  /** Everything has come and was compared. */
  readonly isFinished: boolean;
};

export interface TransferSource {
  readonly place: string;
  /**
   * Marks the store as leaving, or goes on with a migration to the same place. Answers null when everything has left
   * already. @throws SluiceError when it is being served, or on its way to another place
   */
  begin(query: { readonly now: number; readonly to: string }): Promise<TransferHead | null>;
  /** In the order of their ids. Calls past their retention at `begin` are not moved. */
  calls(after: number | null): AsyncIterable<TransferCall>;
  /** In the order of their ids. */
  batches(after: number | null): AsyncIterable<TransferBatch>;
  output(id: number): Promise<Uint8Array>;
  /** In no order. */
  documents(): AsyncIterable<TransferDocument>;
  /** Ids from migrations before this one, with the call's id in the source, in no order; the call may be gone. */
  former(): AsyncIterable<MovedId>;
  counts(): Promise<TransferCounts>;
  /** Everything has moved. */
  leave(): Promise<void>;
  /** Gives a migration up: the store may be served again. False when none was under way. */
  abandon(): Promise<boolean>;
  close(): Promise<void>;
}

export interface TransferTarget {
  readonly place: string;
  /** @throws SluiceError when it is being served, or holds what is not of this migration */
  arrive(head: TransferHead): Promise<TransferPosition>;
  /** One atomic step, or one that does no harm when it is done again. */
  addCalls(calls: readonly TransferCall[], output: (id: number) => Promise<Uint8Array>): Promise<void>;
  addBatches(batches: readonly TransferBatch[]): Promise<void>;
  addFormer(ids: readonly MovedId[]): Promise<void>;
  addDocuments(documents: readonly TransferDocument[]): Promise<void>;
  /** Puts together what came. Nothing is served before `open`. */
  finish(): Promise<TransferCounts>;
  /** Lets it be served. */
  open(): Promise<void>;
  /** Whether this migration was finished here. */
  hasArrived(id: string): Promise<boolean>;
  close(): Promise<void>;
}
