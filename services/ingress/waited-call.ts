/**
 * A call that its caller alone knows of, from its admission to its whole result: who leaves, or whose time is over, cancels
 * it, unless an idempotency key lets somebody ask for it again.
 */
import type { ServerResponse } from 'node:http';
import { isFinished } from '../../shared/domain/call.ts';
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Admission, CallEvent, ResultPart } from '../../shared/store/ports/queue.ts';
import { countAdmitted } from '../calls/admission-counts.ts';
import type { SubmitOptions } from '../calls/options.ts';
import { type TracedAdmission, traceAdmission } from '../calls/tracing.ts';
import type { Output } from '../results/call-results.ts';
import { OutputCache } from '../results/output-cache.ts';
import type { Room } from './room.ts';

/** Output bytes of one answer at most: it is held in memory while it is written. */
const ANSWER_BYTES_MAX = 256 * 2 ** 20;
/** Output bytes that are read at once. */
const PAGE_BYTES = 16 * 2 ** 20;

export type WaitedCall = Pick<CallEvent, 'callId' | 'rows' | 'counts' | 'queueMs' | 'handlerMs'> & {
  readonly parts: readonly ResultPart[];
  readonly output: Output;
};

/** The caller has gone: nobody is there to be answered. */
export class CallerGone extends Error {}

/** Whoever waits for the answer. `onGone` returns what takes the listener off again. */
export type Waiter = {
  readonly isGone: () => boolean;
  readonly onGone: (listener: () => void) => () => void;
};

export const responseWaiter = (response: ServerResponse): Waiter => ({
  isGone: () => response.destroyed,
  onGone: (listener) => {
    response.on('close', listener);
    return () => response.off('close', listener);
  },
});

/**
 * When the call expires. What nobody waits for any more need not begin, also where this thread dies before it can say so; one
 * that an idempotency key can find has its own deadline alone.
 */
export const waitedDeadline = (
  now: number,
  waitMs: number,
  key: string | null,
  { deadlineMs }: SubmitOptions,
): number | null => {
  const endsMs = key === null ? waitMs : deadlineMs;
  return endsMs === null ? null : now + Math.ceil(endsMs);
};

/** @param what the protocol's word for the call */
const fateOf = (what: string, { idempotency }: Admission): string =>
  idempotency === null
    ? `the ${what} is cancelled`
    : `the ${what} goes on, and is found by its idempotency key`;

const timeOver = (what: string, admission: Admission, ms: number): SluiceError =>
  new SluiceError(
    'request_timeout',
    `There was no answer within ${Math.round(ms)} ms; ${fateOf(what, admission)}.`,
  );

/** What a call is to its caller that expired: one with a key by its own deadline, another one by the wait. */
export const expiredCall = (what: string, admission: Admission, waitMs: number): SluiceError =>
  admission.idempotency === null
    ? timeOver(what, admission, waitMs)
    : new SluiceError(
        'request_timeout',
        `The deadline of the ${what} passed before it was answered; ask anew, with another idempotency key.`,
      );

export class WaitedCalls {
  readonly #room: Room;
  readonly #what: string;
  readonly #outputs = new OutputCache();

  /** @param what the protocol's word for the call: `call`, `request` */
  constructor(room: Room, what: string) {
    this.#room = room;
    this.#what = what;
  }

  /**
   * @param traced its admission has `watch`
   * @throws SluiceError of the catalogue; CallerGone
   */
  async run(
    record: FunctionRecord,
    { admission, span }: TracedAdmission,
    waitMs: number,
    waiter: Waiter,
  ): Promise<WaitedCall> {
    const { store, waits, state, ids } = this.#room;
    waits.check();
    const admitted = await traceAdmission(span, store.queue.admit(admission), ids);
    countAdmitted(admission, admitted);
    const { callId, status, attached } = admitted;
    const isOwn = admission.idempotency === null;
    if (isFinished(status) || waiter.isGone()) {
      // The store watches the call for this thread since its admission; nobody waits for it any more.
      store.queue.watch({ kind: 'call', callId }, () => undefined)();
      return waiter.isGone() ? this.#abandon(callId, isOwn, new CallerGone()) : this.#stored(callId);
    }
    const event = await this.#wait(callId, waitMs, waiter).catch((error: Error) =>
      this.#abandon(callId, isOwn, error),
    );
    if (event === 'gone') return this.#abandon(callId, isOwn, new CallerGone());
    if (event !== null) {
      // The version that ran is the one of the admission, unless the call is an older one of the same key.
      if (event.parts === null || attached) return this.#stored(callId);
      return { ...event, parts: this.#outputs.shared(event.parts), output: record.current.spec.output };
    }
    waits.checkKept();
    const why = state.isDraining
      ? new SluiceError('shutting_down', `The server is shutting down; ${fateOf(this.#what, admission)}.`)
      : timeOver(this.#what, admission, waitMs);
    return this.#abandon(callId, isOwn, why);
  }

  #wait(callId: number, waitMs: number, waiter: Waiter): Promise<CallEvent | 'gone' | null> {
    return new Promise((resolve, reject) => {
      const wait = this.#room.waits.wait(callId, waitMs, (end) => {
        stop();
        if (end instanceof SluiceError) reject(end);
        else resolve(end);
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

  async #stored(callId: number): Promise<WaitedCall> {
    const { store, catalogue, ids } = this.#room;
    const parts: ResultPart[] = [];
    const outputs = new Map<number, number>();
    for (let from: number | null = 0; ; ) {
      const page = await store.queue.result({ callId, from, bytesMax: PAGE_BYTES });
      if (page === undefined || page === 'gone')
        throw new SluiceError('call_gone', `The result of call ${ids.encode(callId)} is past its retention.`);
      for (const part of page.parts) {
        parts.push(part);
        if (part.state === 'ok') outputs.set(part.output.batchId, part.output.bytes.byteLength);
      }
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
