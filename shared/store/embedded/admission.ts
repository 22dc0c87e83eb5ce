/** The verb `admit`, for many calls at once. Each is checked, then written; a refusal leaves nothing behind. */
import { writeSync } from 'node:fs';
import { SluiceError } from '../../errors/sluice-error.ts';
import { bytesFull, rowsFull } from '../queue-refusals.ts';
import { finish } from './ending.ts';
import { isDiskError, isNoSpace, toErrorMessage } from './errors.ts';
import type { Ledger } from './ledger.ts';
import {
  ADMIT_WIDTH,
  ADMITTED_WIDTH,
  type AdmitReply,
  type AdmitRequest,
  type ErrorMessage,
  INLINE_BYTES_MAX,
  type PackedPayload,
} from './messages.ts';
import { isInSegment, type LiveCall, type StoredPayload, unsealed, type VersionState } from './model.ts';
import type { ClientPort } from './outbox.ts';
import { use } from './retiring.ts';
import { statusOf } from './views.ts';
import { watchCall } from './watching.ts';

type Admission = {
  readonly now: number;
  readonly version: VersionState;
  readonly keyId: number;
  readonly rows: number;
  readonly bytes: number;
  readonly deadlineAt: number | null;
  readonly payload: PackedPayload;
  readonly extra: string | null;
  readonly idempotency: { readonly key: string; readonly bodyDigest: string } | null;
};

const admissionOf = (ledger: Ledger, request: AdmitRequest, i: number): Admission => {
  const asked = request.numbers;
  const at = i * ADMIT_WIDTH;
  const deadline = asked[at + 5]!;
  return {
    now: asked[at]!,
    version: openVersion(ledger, asked[at + 1]!, request.functions[i]!),
    keyId: asked[at + 2]!,
    rows: asked[at + 3]!,
    bytes: asked[at + 4]!,
    deadlineAt: Number.isNaN(deadline) ? null : deadline,
    payload: request.payloads[i]!,
    extra: request.extras[i]!,
    idempotency: request.idempotency[i] ?? null,
  };
};

/** Whether it would be admitted now, as a new call. */
export const isAdmissible = (ledger: Ledger, request: AdmitRequest, i: number): boolean => {
  try {
    const admission = admissionOf(ledger, request, i);
    if (attached(ledger, admission) !== null) return false;
    checkLimits(ledger, admission);
    return true;
  } catch (error) {
    if (error instanceof SluiceError) return false;
    throw error;
  }
};

export const admit = (ledger: Ledger, request: AdmitRequest, client: ClientPort): AdmitReply => {
  const { numbers: asked } = request;
  const count = asked.length / ADMIT_WIDTH;
  const numbers = new Float64Array(count * ADMITTED_WIDTH);
  let errors: (ErrorMessage | null)[] | null = null;
  for (let i = 0; i < count; i += 1) {
    try {
      const admission = admissionOf(ledger, request, i);
      const isWatched = asked[i * ADMIT_WIDTH + 6] === 1;
      admitOne(ledger, admission, isWatched ? client : null, numbers, i * ADMITTED_WIDTH);
    } catch (error) {
      errors ??= new Array<ErrorMessage | null>(count).fill(null);
      errors[i] = refusalOf(ledger, error);
    }
  }
  return { numbers, errors };
};

/** A refusal is one call's; so is what breaks in one, which shall not fail the calls that came in the same tick. */
const refusalOf = (ledger: Ledger, error: unknown): ErrorMessage => {
  if (error instanceof SluiceError) {
    ledger.count('admissions_refused');
    return toErrorMessage(error);
  }
  if (isDiskError(error) || !ledger.db.isTransaction) throw error;
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const detail = `This is a bug in Sluice, please report it: the store's admit failed: ${message}`;
  writeSync(2, `${JSON.stringify({ level: 50, msg: detail, err: stack })}\n`);
  return { code: null, detail, extra: {} };
};

const openVersion = (ledger: Ledger, versionId: number, functionName: string): VersionState => {
  const version = ledger.versions.get(versionId);
  if (version === undefined || version.owner.isRemoved || version.owner.name !== functionName) {
    throw new SluiceError(
      'function_not_found',
      `There is no function "${functionName}" with the version ${versionId}.`,
    );
  }
  return version;
};

const admitOne = (
  ledger: Ledger,
  admission: Admission,
  watcher: ClientPort | null,
  answer: Float64Array,
  at: number,
): void => {
  const known = attached(ledger, admission);
  if (known !== null) {
    answer[at] = known;
    answer[at + 1] = statusOf(ledger, known);
    answer[at + 2] = 1;
    if (watcher !== null) watchCall(ledger, known, watcher);
    return;
  }
  checkLimits(ledger, admission);
  use(ledger, admission.version);
  const id = ledger.nextCall;
  const call = newCall(ledger, admission, id);
  write(ledger, call, admission);
  // From here on only a broken or full disk can fail, and that undoes the whole commit.
  ledger.nextCall += 1;
  if (watcher !== null) ledger.outbox.watch(id, watcher);
  const { owner } = admission.version;
  owner.liveCalls += 1;
  owner.waitingCalls += 1;
  owner.waitingRows += call.rows;
  owner.openBytes += call.bytes;
  if (call.rows === 0) {
    finish(ledger, call, admission.now, 'cancelled', false);
  } else {
    ledger.remember(call);
    ledger.outbox.addWaiting(call);
  }
  answer[at] = id;
  answer[at + 1] = call.rows === 0 ? 2 : 0;
};

/** The call that the idempotency key names, null where there is none. */
const attached = (ledger: Ledger, { idempotency, keyId, version }: Admission): number | null => {
  if (idempotency === null) return null;
  const row = ledger.sql.idempotent.get(keyId, version.owner.id, idempotency.key) as
    | { digest: string; call: number }
    | undefined;
  if (row === undefined) return null;
  if (row.digest === idempotency.bodyDigest) return row.call;
  throw new SluiceError(
    'idempotency_mismatch',
    `The Idempotency-Key "${idempotency.key}" was used with another body; use a new key for a new body.`,
    { field: 'Idempotency-Key' },
  );
};

const checkLimits = (ledger: Ledger, { version, rows, bytes }: Admission): void => {
  const { owner } = version;
  const { options } = ledger;
  const asked = { functionName: owner.name, rows, bytes };
  if (owner.waitingRows + owner.sealedRows + rows > options.queueRowsMax) {
    throw rowsFull(asked, options, owner.waitingRows, owner.sealedRows);
  }
  if (owner.openBytes + bytes > options.queueBytesMax) throw bytesFull(asked, options, owner.openBytes);
  if (ledger.isRefusing || ledger.disk.isFullFor(bytes)) throw diskFull(options.limitBytes);
};

export const diskFull = (limitBytes: number): SluiceError =>
  new SluiceError(
    'disk_full',
    `The data directory is at its limit of ${limitBytes} bytes, or its file system has too little free space.`,
  );

const newCall = (ledger: Ledger, admission: Admission, id: number): LiveCall =>
  unsealed({
    id,
    version: admission.version,
    keyId: admission.keyId,
    rows: admission.rows,
    bytes: admission.bytes,
    arrivedAt: admission.now,
    deadlineAt: admission.deadlineAt,
    extra: admission.extra,
    payload: place(ledger, admission, id),
  });

/** A large payload goes to a segment before the row that refers to it is written. */
const place = (ledger: Ledger, { payload, now, rows }: Admission, id: number): StoredPayload => {
  if (typeof payload === 'string') return payload;
  const isText = 'utf8' in payload;
  const bytes = isText ? payload.utf8 : payload;
  if (rows === 0 || bytes.byteLength <= INLINE_BYTES_MAX) return bytes;
  try {
    const ref = ledger.segments.append(bytes, now);
    ledger.segments.refer(ref.segment, 1);
    if (!isText) ledger.blobs.set(-id, bytes);
    return { ...ref, kind: isText ? 0 : 1 };
  } catch (error) {
    if (!isNoSpace(error)) throw error;
    ledger.disk.forget();
    throw diskFull(ledger.options.limitBytes);
  }
};

/** Writes a call's rows, or none of them: a row that SQLite refuses leaves nothing of its call behind. */
const write = (ledger: Ledger, call: LiveCall, { idempotency }: Admission): void => {
  try {
    if (idempotency !== null) {
      const { key, bodyDigest } = idempotency;
      ledger.sql.addIdempotent.run(call.keyId, call.version.owner.id, key, bodyDigest, call.id);
    }
    if (call.rows > 0) addRow(ledger, call);
  } catch (error) {
    if (idempotency !== null) ledger.sql.dropIdempotent.run(call.id);
    if (isInSegment(call.payload)) {
      ledger.segments.refer(call.payload.segment, -1);
      ledger.blobs.delete(-call.id);
    }
    throw error;
  }
};

const addRow = (ledger: Ledger, call: LiveCall): void => {
  const { id, version, keyId, rows, bytes, arrivedAt, deadlineAt, extra, payload } = call;
  const ref = isInSegment(payload) ? payload : null;
  ledger.sql.addLive.run(
    id,
    version.id,
    keyId,
    rows,
    bytes,
    arrivedAt,
    deadlineAt,
    deadlineAt,
    extra,
    ref?.segment ?? null,
    ref?.at ?? null,
    ref?.length ?? null,
    ref?.kind ?? null,
    isInSegment(payload) ? null : (payload ?? null),
  );
};
