/**
 * An inference request from its tensors to its answer's: one call, admitted like all others, waited for, read whole. Its
 * caller alone knows of it: who leaves, or whose time is over, cancels it.
 */
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isFinished } from '../../../shared/domain/call.ts';
import type { FunctionRecord } from '../../../shared/domain/function.ts';
import { isErrorCode } from '../../../shared/errors/catalogue.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import type { Admission, Admitted, CallEvent, ResultPart } from '../../../shared/store/ports/queue.ts';
import {
  type Output,
  outputFields,
  outputTensors,
  type Tensor,
  tensorRows,
} from '../../../shared/wire/oip/index.ts';
import { headerOptions, idempotencyKey, type SubmitOptions } from '../../calls/options.ts';
import type { Caller } from '../../calls/submission.ts';
import { startCallSpan } from '../../calls/tracing.ts';
import { OutputCache } from '../../results/output-cache.ts';
import type { Room } from '../room.ts';

/** Output bytes of one answer at most: it is held in memory while it is written. */
const ANSWER_BYTES_MAX = 256 * 2 ** 20;
/** Output bytes that are read at once. */
const PAGE_BYTES = 16 * 2 ** 20;

/** Whoever waits for the answer. `onGone` returns what takes the listener off again. */
export type Waiter = {
  readonly isGone: () => boolean;
  readonly onGone: (listener: () => void) => () => void;
};

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

/** The end of a call with all that it answers. */
type Ended = Pick<CallEvent, 'callId' | 'rows' | 'counts' | 'queueMs' | 'handlerMs'> & {
  readonly parts: readonly ResultPart[];
  readonly output: Output;
};

/** The caller has gone: nobody is there to be answered. */
export class CallerGone extends Error {}

const timeOver = (ms: number): SluiceError =>
  new SluiceError(
    'request_timeout',
    `There was no answer within ${Math.round(ms)} ms; the call is cancelled.`,
  );

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
  readonly #outputs = new OutputCache();

  constructor(room: Room) {
    this.#room = room;
  }

  /** @throws SluiceError of the catalogue; CallerGone */
  async infer(inference: Inference, waiter: Waiter): Promise<Inferred> {
    const { state, waits, settings, ids } = this.#room;
    if (state.isDraining) throw new SluiceError('shutting_down', 'The server is shutting down.');
    waits.check();
    const options = headerOptions(inference.headers);
    const waitMs = shortest(inference.timeoutMs, options.deadlineMs, settings.waitMaxMs);
    const admission = admissionOf(inference, options, waitMs);
    const ended = await this.#run(inference.record, admission, waitMs, waiter);
    refuseFailed(ended, ids.encode(ended.callId), waitMs);
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

  async #run(record: FunctionRecord, admission: Admission, waitMs: number, waiter: Waiter): Promise<Ended> {
    const { queue } = this.#room.store;
    const admitted = await queue.admit(admission);
    const { callId } = admitted;
    const isOwn = admission.idempotency === null;
    if (!admitted.attached) {
      metrics.callsAdmitted.labels(record.name).inc();
      metrics.rowsAdmitted.labels(record.name).inc(admission.rows);
    }
    if (isFinished(admitted.status) || waiter.isGone()) {
      // The store watches the call for this thread since its admission; nobody waits for it any more.
      queue.watch({ kind: 'call', callId }, () => undefined)();
      if (waiter.isGone()) return this.#abandon(callId, isOwn, new CallerGone());
      return this.#stored(callId);
    }
    const event = await this.#wait(callId, waitMs, waiter).catch((error: Error) =>
      this.#abandon(callId, isOwn, error),
    );
    if (event === 'gone') return this.#abandon(callId, isOwn, new CallerGone());
    if (event !== null) return this.#finished(event, admitted, record);
    this.#room.waits.checkKept();
    const why = this.#room.state.isDraining
      ? new SluiceError('shutting_down', 'The server is shutting down; the call is cancelled.')
      : timeOver(waitMs);
    return this.#abandon(callId, isOwn, why);
  }

  #wait(callId: number, waitMs: number, waiter: Waiter): Promise<CallEvent | 'gone' | null> {
    return new Promise((resolve) => {
      const wait = this.#room.waits.wait(callId, waitMs, (event) => {
        stop();
        resolve(event);
      });
      const stop = waiter.onGone(() => {
        wait.cancel();
        stop();
        resolve('gone');
      });
    });
  }

  /** A call that somebody may ask for again, by its idempotency key, is left alone. */
  async #abandon(callId: number, isOwn: boolean, why: Error): Promise<never> {
    if (isOwn) await this.#room.store.queue.cancel({ now: Date.now(), callId });
    throw why;
  }

  /** The version that ran is the one of the admission, unless the call is an older one of the same key. */
  async #finished(event: CallEvent, admitted: Admitted, record: FunctionRecord): Promise<Ended> {
    if (event.parts === null || admitted.attached) return this.#stored(event.callId);
    return {
      ...event,
      parts: this.#outputs.shared(event.parts),
      output: record.current.spec.output,
    };
  }

  async #stored(callId: number): Promise<Ended> {
    const { store, catalogue, ids } = this.#room;
    const parts: ResultPart[] = [];
    const outputs = new Map<number, number>();
    for (let from: number | null = 0; ; ) {
      const page = await store.queue.result({ callId, from, bytesMax: PAGE_BYTES });
      if (page === undefined || page === 'gone')
        throw new SluiceError('call_gone', `The result of call ${ids.encode(callId)} is past its retention.`);
      parts.push(...page.parts);
      for (const part of page.parts)
        if (part.state === 'ok') outputs.set(part.output.batchId, part.output.bytes.byteLength);
      const bytes = [...outputs.values()].reduce((sum, one) => sum + one, 0);
      if (bytes > ANSWER_BYTES_MAX)
        throw new SluiceError(
          'not_acceptable',
          `The answer has more than ${ANSWER_BYTES_MAX} bytes; send fewer rows.`,
        );
      from = page.next;
      if (from !== null) continue;
      const { call } = page;
      const version = await catalogue.version(call.functionName, call.versionId);
      if (version === undefined)
        throw new SluiceError('function_not_found', `There is no function ${call.functionName} any more.`);
      return { ...call, callId, parts, output: version.spec.output };
    }
  }
}

/** V8 parses JSON of any depth, and shows it only so deep as its stack reaches. */
export const withinStack = <T>(work: () => T): T => {
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeError) throw new SluiceError('invalid_json', 'The JSON nests too deep.');
    throw error;
  }
};

const admissionOf = (inference: Inference, options: SubmitOptions, waitMs: number): Admission => {
  const { record, tensors, headers, caller } = inference;
  checkWanted(inference);
  const { rows, bytes, schemaKey } = withinStack(() => tensorRows(tensors, record.current.spec.inputs));
  const key = idempotencyKey(headers);
  const now = Date.now();
  return {
    now,
    functionName: record.name,
    versionId: record.current.id,
    apiKeyId: caller.id,
    lane: options.lane ?? caller.lane,
    priority: options.priority,
    // What nobody waits for any more need not begin, also where this thread dies before it can say so.
    deadlineAt: now + Math.ceil(waitMs),
    rows,
    bytes: bytes.byteLength,
    schemaKey,
    payload: { kind: 'arrow', bytes },
    idempotency: key === null ? null : { key, bodyDigest: createHash('sha256').update(bytes).digest('hex') },
    metadata: options.metadata,
    traceparent: startCallSpan(record.name, rows, headers),
    watch: true,
  };
};

/** A tensor has no place for a row that failed: the first one is the answer. */
const refuseFailed = ({ parts, rows, counts }: Ended, callId: string, waitMs: number): void => {
  const part = parts.find(({ state }) => state !== 'ok');
  if (part === undefined) return;
  if (part.state === 'expired') throw timeOver(waitMs);
  const failed = `${rows - counts.ok} of ${rows} rows of call ${callId} are without an answer; row ${part.from}`;
  if (part.state !== 'failed') throw new SluiceError('row_cancelled', `${failed} was cancelled.`);
  const { code, kind, message } = part.error;
  throw new SluiceError(
    isErrorCode(code) ? code : 'handler_error',
    `${failed} failed with ${kind === undefined ? '' : `${kind}: `}${message} (${code})`,
    { row: part.from, call_id: callId },
  );
};
