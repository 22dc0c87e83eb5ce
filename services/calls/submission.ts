/** A submission: decoded, checked against the function's inputs, named by `store.admit`. Nothing is kept here. */

import { isAscii, isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import {
  checkNamed,
  type ExactJson,
  type ExactNumbers,
  exactJson,
  exactNumbersFor,
  jsonToPayload,
  matchInputs,
  readStream,
} from '../../shared/arrow/index.ts';
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { isTooDeep } from '../../shared/errors/nesting.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Admission, Admitted, QueueStore } from '../../shared/store/ports/queue.ts';
import {
  bodyOptions,
  headerOptions,
  idempotencyKey,
  type JsonSubmission,
  type SubmitOptions,
} from './options.ts';
import { callTraceparent, startCallSpan, type TracedAdmission } from './tracing.ts';

export type Caller = { readonly id: number; readonly lane: string };

export type BodyForm = 'json' | 'arrow';

type Rows = Pick<Admission, 'rows' | 'bytes' | 'schemaKey' | 'payload'>;

/** Text of a JSON body; JSON is UTF-8 (RFC 8259), and a wrong byte is an error, not a replacement character. */
const textOf = (body: Buffer): string => {
  if (isAscii(body)) return body.toString('latin1');
  if (!isUtf8(body)) throw new SluiceError('invalid_json', 'The body is not valid UTF-8.');
  return body.toString('utf8');
};

/** @throws SluiceError `invalid_json` with the place of the error */
export const parseJsonObject = (body: Buffer): Readonly<Record<string, unknown>> =>
  exactObject(body, 'none').value as Readonly<Record<string, unknown>>;

const exactObject = (body: Buffer, numbers: ExactNumbers): ExactJson => {
  if (body.length === 0) throw new SluiceError('invalid_json', 'The body is empty; send one JSON object.');
  let parsed: ExactJson;
  try {
    parsed = exactJson(textOf(body), numbers);
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    if (isTooDeep(error)) throw new SluiceError('invalid_json', 'The body nests too deep.');
    throw new SluiceError('invalid_json', `The body does not parse: ${(error as Error).message}.`);
  }
  const { value } = parsed;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SluiceError('invalid_json', 'The body is JSON but not an object.');
  }
  return parsed;
};

const arrowRows = (body: Buffer, record: FunctionRecord): Rows => {
  const bytes = new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  const stream = readStream(bytes);
  const { schemaKey } = matchInputs(stream, record.current.spec.inputs);
  return { rows: stream.rows, bytes: bytes.byteLength, schemaKey, payload: { kind: 'arrow', bytes } };
};

/** The same request gives the same digest: options in a fixed order, then the body's bytes. `form`: what the bytes are. */
export const submissionDigest = (form: string, options: SubmitOptions, body: Uint8Array): string => {
  const metadata = Object.entries(options.metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  const head = JSON.stringify([form, options.priority, options.lane, options.deadlineMs, metadata]);
  return createHash('sha256').update(head).update('\n').update(body).digest('hex');
};

/** `refusal`: why it can be no new call. Its key may name one of an earlier version, which took the same body. */
export type CompiledSubmission = TracedAdmission & { readonly refusal: SluiceError | null };

/** More than any store takes: such a call attaches to the one that its idempotency key names, or is refused. */
const NO_NEW_CALL: Rows = {
  rows: Number.MAX_SAFE_INTEGER,
  bytes: 0,
  schemaKey: '',
  payload: { kind: 'json', text: '[]' },
};

/** Admits the call, or attaches to the one of its key. @throws SluiceError of the store, or the submission's own refusal */
export const admitSubmission = async (
  queue: Pick<QueueStore, 'admit'>,
  { admission, refusal }: CompiledSubmission,
): Promise<Admitted> => {
  if (refusal === null) return queue.admit(admission);
  try {
    return await queue.admit(admission);
  } catch (error) {
    throw error instanceof SluiceError && error.code === 'payload_too_large' ? refusal : error;
  }
};

/** The rows, or why there are none: thrown at once where no key can name an earlier call. */
const rowsOrRefusal = (
  compile: () => Rows,
  key: string | null,
): { readonly rows: Rows; readonly refusal: SluiceError | null } => {
  try {
    return { rows: compile(), refusal: null };
  } catch (error) {
    if (key === null || !(error instanceof SluiceError)) throw error;
    return { rows: NO_NEW_CALL, refusal: error };
  }
};

/**
 * The admission of a request's body. `watch`: the caller will wait for the call's end.
 * @throws SluiceError of the catalogue, naming field and value
 */
export const compileSubmission = (
  record: FunctionRecord,
  form: BodyForm,
  body: Buffer,
  headers: IncomingHttpHeaders,
  caller: Caller,
  watch: boolean,
): CompiledSubmission => {
  const fromHeaders = headerOptions(headers);
  const { inputs, model } = record.current.spec;
  const json = form === 'json' ? exactObject(body, exactNumbersFor(inputs)) : null;
  const parsed = json === null ? null : (json.value as JsonSubmission);
  const options = parsed === null ? fromHeaders : bodyOptions(parsed, fromHeaders);
  const key = idempotencyKey(headers);
  const { rows, refusal } = rowsOrRefusal(() => {
    if (parsed === null) return arrowRows(body, record);
    if (inputs !== null && model != null) checkNamed(parsed, inputs);
    return jsonToPayload(parsed, inputs, json?.hasExact);
  }, key);
  const span = startCallSpan(record.name, refusal === null ? rows.rows : 0, headers);
  const now = Date.now();
  const admission: Admission = {
    now,
    functionName: record.name,
    versionId: record.current.id,
    apiKeyId: caller.id,
    lane: options.lane ?? caller.lane,
    priority: options.priority,
    deadlineAt: options.deadlineMs === null ? null : now + options.deadlineMs,
    rows: rows.rows,
    bytes: rows.bytes,
    schemaKey: rows.schemaKey,
    payload: rows.payload,
    idempotency: key === null ? null : { key, bodyDigest: submissionDigest(form, options, body) },
    metadata: options.metadata,
    traceparent: callTraceparent(span, headers),
    watch,
  };
  return { admission, span, refusal };
};
