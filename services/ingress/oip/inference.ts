/**
 * An inference request from its tensors to its answer's: one call, admitted like all others, waited for, read whole. Its
 * caller alone knows of it: who leaves, or whose time is over, cancels it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { FunctionRecord } from '../../../shared/domain/function.ts';
import { isErrorCode } from '../../../shared/errors/catalogue.ts';
import { withinStack } from '../../../shared/errors/nesting.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import type { Admission } from '../../../shared/store/ports/queue.ts';
import { outputFields, outputTensors, type Tensor, tensorRows } from '../../../shared/wire/oip/index.ts';
import { headerOptions, idempotencyKey, type SubmitOptions } from '../../calls/options.ts';
import { type Caller, submissionDigest } from '../../calls/submission.ts';
import { callTraceparent, startCallSpan, type TracedAdmission } from '../../calls/tracing.ts';
import type { Room } from '../room.ts';
import { expiredCall, type WaitedCall, WaitedCalls, type Waiter, waitedDeadline } from '../waited-call.ts';

export type Inference = {
  readonly record: FunctionRecord;
  readonly tensors: readonly Tensor[];
  /** Names of outputs; null: all. */
  readonly wanted: ReadonlySet<string> | null;
  /** Until the caller gives up; null: it does not say. */
  readonly timeoutMs: number | null;
  /** Options of a call, as its headers have them; gRPC's metadata have the same names. */
  readonly headers: IncomingHttpHeaders;
  readonly caller: Caller;
};

export type Inferred = {
  readonly tensors: readonly Tensor[];
  readonly callId: string;
  readonly queueMs: number | null;
  readonly handlerMs: number;
};

/** The protocol's word for what a client's time or leave ends. */
const WHAT = 'call';

/** @throws SluiceError naming outputs that are not there */
const checkWanted = ({ record, wanted }: Inference): void => {
  if (wanted === null) return;
  const names = outputFields(record.current.spec.output).map(({ name }) => name);
  for (const name of wanted)
    if (!names.includes(name))
      throw new SluiceError(
        'invalid_request',
        `output ${JSON.stringify(name.slice(0, 128))} is no output of the function; its outputs are ${names.join(', ')}`,
        { field: name },
      );
};

const shortest = (...times: readonly (number | null)[]): number =>
  Math.min(...times.filter((time) => time !== null));

export class Inferences {
  readonly #room: Room;
  readonly #calls: WaitedCalls;

  constructor(room: Room) {
    this.#room = room;
    this.#calls = new WaitedCalls(room, WHAT);
  }

  /** @throws SluiceError of the catalogue; CallerGone */
  async infer(inference: Inference, waiter: Waiter): Promise<Inferred> {
    const { state, waits, settings, ids } = this.#room;
    if (state.isDraining) throw new SluiceError('shutting_down', 'The server is shutting down.');
    // Before the tensors are looked at; asked again at the call's own door.
    waits.check();
    const options = headerOptions(inference.headers);
    const waitMs = shortest(inference.timeoutMs, options.deadlineMs, settings.waitMaxMs);
    const traced = admissionOf(inference, options, waitMs);
    const ended = await this.#calls.run(inference.record, traced, waitMs, waiter);
    refuseFailed(ended, ids.encode(ended.callId), () => expiredCall(WHAT, traced.admission, waitMs));
    const runs = ended.parts.flatMap((part) =>
      part.state === 'ok' ? [{ ...part, bytes: part.output.bytes }] : [],
    );
    return {
      tensors: outputTensors(runs, ended.output, inference.wanted),
      callId: ids.encode(ended.callId),
      queueMs: ended.queueMs,
      handlerMs: ended.handlerMs,
    };
  }
}

const admissionOf = (inference: Inference, options: SubmitOptions, waitMs: number): TracedAdmission => {
  const { record, tensors, headers, caller } = inference;
  checkWanted(inference);
  const { rows, bytes, schemaKey } = withinStack('The JSON', () =>
    tensorRows(tensors, record.current.spec.inputs),
  );
  const key = idempotencyKey(headers);
  const span = startCallSpan(record.name, rows, headers);
  const now = Date.now();
  const admission: Admission = {
    now,
    functionName: record.name,
    versionId: record.current.id,
    apiKeyId: caller.id,
    lane: options.lane ?? caller.lane,
    priority: options.priority,
    deadlineAt: waitedDeadline(now, waitMs, key, options),
    rows,
    bytes: bytes.byteLength,
    schemaKey,
    payload: { kind: 'arrow', bytes },
    idempotency: key === null ? null : { key, bodyDigest: submissionDigest('tensors', options, bytes) },
    metadata: options.metadata,
    traceparent: callTraceparent(span, headers),
    watch: true,
  };
  return { admission, span };
};

/** A tensor has no place for a row that failed: the first one is the answer. */
const refuseFailed = (
  { parts, rows, counts }: WaitedCall,
  callId: string,
  expired: () => SluiceError,
): void => {
  const part = parts.find(({ state }) => state !== 'ok');
  if (part === undefined) return;
  if (part.state === 'expired') throw expired();
  const failed = `${rows - counts.ok} of ${rows} rows of call ${callId} are without an answer; row ${part.from}`;
  if (part.state !== 'failed') throw new SluiceError('row_cancelled', `${failed} was cancelled.`);
  const { code, kind, message } = part.error;
  throw new SluiceError(
    isErrorCode(code) ? code : 'handler_error',
    `${failed} failed with ${kind === undefined ? '' : `${kind}: `}${message} (${code})`,
    { row: part.from, call_id: callId },
  );
};
