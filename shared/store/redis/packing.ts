/**
 * The bytes that scripts and client share. Lists of numbers and texts cross as MessagePack; a call is a value as
 * scripts/parts/calls.lua describes it. Lua takes every text for bytes, so that payloads and outputs never lie in MessagePack.
 */
import { Packr } from 'msgpackr';
import type { Call, CallStatus } from '../../domain/call.ts';
import { type Extra, packExtra, parseExtra } from '../extra.ts';
import type { Admission, WaitingCall } from '../ports/queue.ts';
import { PART, STATUSES } from '../stored-words.ts';
import { callIdOf, serialOfVersion, versionIdOf } from './layout.ts';

export { MODES, PART, PART_STATES, PART_WIDTH, REASONS, SLICE_WIDTH, STATUSES } from '../stored-words.ts';

/** Above this a payload has a key of its own: a call's value is written again at each of its steps. */
export const INLINE_BYTES_MAX = 512;

/** Bytes as the ports give them: a Buffer is not equal to the same bytes elsewhere. */
export const plain = ({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

const packr = new Packr({ useRecords: false, int64AsType: 'number' });
export const pack = (value: unknown): Buffer => packr.pack(value);
export const unpack = <T>(bytes: Buffer): T => packr.unpack(bytes) as T;

type MaybeNumber = number | false;
/** The fields of a head; those after `idempotency` are missing while nothing has happened to the call. */
type Head = [
  version: number,
  apiKey: number,
  rows: number,
  bytes: number,
  arrived: number,
  deadline: MaybeNumber,
  extra: string | false,
  kind: number,
  idempotency: string | false,
  sealed?: number,
  settled?: number,
  failed?: number,
  expired?: number,
  leased?: MaybeNumber,
  started?: MaybeNumber,
  handlerMs?: number,
  batches?: readonly number[] | false,
  parts?: readonly number[] | boolean,
  finished?: MaybeNumber,
  expires?: MaybeNumber,
  cancelled?: number,
  fill?: number,
];

export const idempotencyOf = ({ apiKeyId, idempotency }: Admission): string | false =>
  idempotency !== null && `${apiKeyId}:${idempotency.key}`;

/**
 * What a call's payload is: 0 JSON, 1 Arrow; 2 and 3 the same in a key of their own; 4 and 5 the same in the bucket, with a
 * reference in the payload's place.
 */
const KIND_OF_OBJECTS = 4;
export const isObject = (kind: number): boolean => kind >= KIND_OF_OBJECTS;
export const objectKind = ({ payload }: Pick<Admission, 'payload'>): number =>
  KIND_OF_OBJECTS + (payload.kind === 'json' ? 0 : 1);

/** The kind of a payload that lies in Redis. */
export const payloadOf = ({ payload }: Pick<Admission, 'payload'>): { kind: number; bytes: Uint8Array } => {
  const bytes = payload.kind === 'json' ? Buffer.from(payload.text) : payload.bytes;
  const kind = payload.kind === 'json' ? 0 : 1;
  return { kind: bytes.byteLength > INLINE_BYTES_MAX ? kind + 2 : kind, bytes };
};

export const headOf = (admission: Admission, kind: number): Buffer => {
  const { versionId, apiKeyId, rows, bytes, now, deadlineAt } = admission;
  const head: Head = [
    serialOfVersion(versionId),
    apiKeyId,
    rows,
    bytes,
    now,
    deadlineAt ?? false,
    packExtra(admission) ?? false,
    kind,
    idempotencyOf(admission),
  ];
  return pack(head);
};

const PREFIX_BYTES = 11;

/** A call as it is stored. Times that did not come yet are null. */
export type StoredCall = {
  readonly id: number;
  readonly versionId: number;
  readonly status: CallStatus;
  /** Order of arrival among the calls of all functions: microseconds of the server's clock. */
  readonly stamp: number;
  readonly apiKeyId: number;
  readonly rows: number;
  readonly bytes: number;
  readonly arrivedAt: number;
  readonly deadlineAt: number | null;
  readonly extra: Extra;
  readonly kind: number;
  readonly sealed: number;
  readonly settled: number;
  readonly failed: number;
  readonly expired: number;
  readonly cancelled: number;
  readonly startedAt: number | null;
  /** When a handler first ran; a lease alone is no run. */
  readonly ranAt: number | null;
  /** `API_KEY_ID:KEY` of its idempotency key. */
  readonly idempotency: string | null;
  readonly handlerMs: number;
  readonly finishedAt: number | null;
  readonly expiresAt: number | null;
  /** What rows without a part are: a PART. */
  readonly fill: number;
  /** A reference where it lies in the bucket; empty where it has a key of its own, where the reader left it out, and once the call is finished. */
  readonly payload: Buffer;
};

const orNull = (value: MaybeNumber | undefined): number | null =>
  value === undefined || value === false ? null : value;

export const readCall = (fn: number, n: number, value: Buffer): StoredCall => {
  const length = value.readUIntBE(1, 3);
  const head = unpack<Head>(value.subarray(PREFIX_BYTES, PREFIX_BYTES + length));
  const [version, apiKeyId, rows, bytes, arrivedAt, deadline, extra, kind] = head;
  const finishedAt = orNull(head[18]);
  return {
    id: callIdOf(fn, n),
    versionId: versionIdOf(fn, version),
    status: STATUSES[value[0]!]!,
    stamp: value[4]! * 2 ** 48 + value.readUIntBE(5, 6),
    apiKeyId,
    rows,
    bytes,
    arrivedAt,
    deadlineAt: orNull(deadline),
    extra: parseExtra(extra === false ? null : extra),
    kind,
    sealed: head[9] ?? 0,
    settled: head[10] ?? 0,
    failed: head[11] ?? 0,
    expired: head[12] ?? 0,
    cancelled: head[20] ?? 0,
    startedAt: orNull(head[14]) ?? orNull(head[13]),
    ranAt: orNull(head[14]),
    idempotency: head[8] === false ? null : head[8],
    handlerMs: head[15] ?? 0,
    finishedAt,
    expiresAt: orNull(head[19]),
    fill: finishedAt === null ? PART.pending : (head[21] ?? PART.cancelled),
    payload: value.subarray(PREFIX_BYTES + length),
  };
};

const queueMsOf = ({ startedAt, arrivedAt }: StoredCall): number | null =>
  startedAt === null ? null : Math.max(startedAt - arrivedAt, 0);

export const countsOf = (call: StoredCall): Call['counts'] => {
  const { rows, settled, failed, expired, cancelled, finishedAt } = call;
  const done = finishedAt === null ? settled : rows;
  return { ok: done - failed - expired - cancelled, failed, cancelled, expired };
};

/** @param version what the registry knows of it; nothing where it is gone */
export const showCall = (
  stored: StoredCall,
  version: { readonly functionName: string; readonly digest: string } | undefined,
): Call => {
  const { lane, priority, metadata, traceparent } = stored.extra;
  const { id, versionId, apiKeyId, rows, bytes, status } = stored;
  const { arrivedAt, startedAt, finishedAt, deadlineAt, expiresAt, handlerMs } = stored;
  return {
    id,
    functionName: version?.functionName ?? '',
    versionId,
    versionDigest: version?.digest ?? '',
    apiKeyId,
    lane,
    priority,
    rows,
    bytes,
    status,
    counts: countsOf(stored),
    arrivedAt,
    startedAt,
    finishedAt,
    deadlineAt,
    expiresAt,
    metadata,
    traceparent,
    queueMs: queueMsOf(stored),
    handlerMs,
  };
};

export const waitingOf = (stored: StoredCall): WaitingCall => {
  const { id, versionId, sealed, rows, bytes, arrivedAt, deadlineAt, extra } = stored;
  const { priority, lane, schemaKey } = extra;
  return {
    callId: id,
    versionId,
    from: sealed,
    rows: rows - sealed,
    bytes,
    arrivedAt,
    deadlineAt,
    priority,
    lane,
    schemaKey,
  };
};
