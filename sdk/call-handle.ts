/** A handle on one call: its state, its results, its end. It can be made again from the call id in another process. */
import { isFinished } from '../shared/domain/call.ts';
import { ARROW_STREAM, type CallJson, type ProblemJson } from '../shared/wire/api.ts';
import { Deadline } from './deadline.ts';
import { CallFailedError, problemError, SluiceError } from './errors.ts';
import { pathPart } from './path-part.ts';
import { type DecodedResult, decodeResult } from './result.ts';
import { serverEvents } from './server-events.ts';
import { backOffMs, pause, type Transport } from './transport.ts';

export type WaitOptions = {
  /** How long to wait at most, whatever keeps the answer away; 0 asks once. Without it as long as it takes. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type CallResult = DecodedResult & { readonly call: CallEnd };

/** What the headers of a result say of its call. */
export type CallEnd = {
  readonly status: string;
  readonly rows: number;
  readonly rowsFailed: number;
  readonly queueMs: number | null;
  readonly handlerMs: number | null;
};

/** One long poll at most; proxies cut idle connections after a minute or more. */
const POLL_LONGEST_S = 50;

/** How long the server is asked to wait. */
export const waitSeconds = (deadline: Deadline | null): string =>
  Math.min(POLL_LONGEST_S, (deadline?.leftMs ?? Number.POSITIVE_INFINITY) / 1000).toFixed(3);

export class CallHandle<Output = unknown> {
  readonly callId: string;
  /** What the submission was answered; null on a handle that was made from an id. */
  readonly submitted: CallJson | null;
  readonly #transport: Transport;

  constructor(transport: Transport, callId: string, submitted: CallJson | null = null) {
    this.#transport = transport;
    this.callId = callId;
    this.submitted = submitted;
  }

  /** The call as it stands. @throws SluiceError `call_not_found`, `call_gone` */
  status(signal?: AbortSignal): Promise<CallJson> {
    return this.#transport.json<CallJson>(this.#path(), { signal, isSafe: true });
  }

  /**
   * One result a row, in the order of the rows.
   * @throws CallFailedError when a row is not ok; it carries the errors by row and the partial results
   * @throws TimeoutError when `timeoutMs` is over; the call goes on
   */
  async get(options: WaitOptions = {}): Promise<Output[]> {
    const { values, errors } = await this.result(options);
    if (errors.size > 0) throw new CallFailedError(this.callId, errors, values);
    return values as Output[];
  }

  /** Results and errors by row, without throwing for rows that failed. */
  async result(options: WaitOptions = {}): Promise<CallResult> {
    const { bytes, call } = await this.arrow(options);
    return { ...decodeResult(bytes), call };
  }

  /** The result as an Arrow IPC stream: column `result`, and `error` (JSON texts) where a row is not ok. */
  async arrow(options: WaitOptions = {}): Promise<{ bytes: Uint8Array; call: CallEnd }> {
    const { timeoutMs, signal } = options;
    const deadline = Deadline.in(timeoutMs, this.callId);
    const headers = { accept: ARROW_STREAM };
    for (;;) {
      const path = (): string => `${this.#path()}/result?wait=${waitSeconds(deadline)}`;
      try {
        const answer = await this.#transport.request(path, { headers, signal, isSafe: true, deadline });
        return { bytes: answer.bytes, call: endOf(answer.headers) };
      } catch (error) {
        if (!(error instanceof SluiceError) || error.code !== 'result_not_ready') throw error;
        if (deadline?.leftMs === 0) throw deadline.error();
      }
    }
  }

  /** What is finished so far; unfinished rows are in `errors` with the code `row_unfinished`. */
  async partial(signal?: AbortSignal): Promise<CallResult> {
    const { bytes, call } = await this.partialArrow(signal);
    return { ...decodeResult(bytes), call };
  }

  /** What is finished so far as an Arrow IPC stream, as `arrow` gives the whole. */
  async partialArrow(signal?: AbortSignal): Promise<{ bytes: Uint8Array; call: CallEnd }> {
    const answer = await this.#transport.request(`${this.#path()}/result?partial=true`, {
      headers: { accept: ARROW_STREAM },
      signal,
      isSafe: true,
    });
    return { bytes: answer.bytes, call: endOf(answer.headers) };
  }

  /**
   * Cancels what is not finished. What is finished stays readable. A second time does no harm.
   * @throws TimeoutError when the server has not answered in `timeoutMs`
   */
  cancel({ timeoutMs, signal }: WaitOptions = {}): Promise<CallJson> {
    const deadline = Deadline.in(timeoutMs, this.callId);
    return this.#transport.json<CallJson>(this.#path(), { method: 'DELETE', signal, isSafe: true, deadline });
  }

  /** The result has been read: the server keeps it for minutes only, not for its full retention. */
  async acknowledge({ timeoutMs, signal }: WaitOptions = {}): Promise<void> {
    const deadline = Deadline.in(timeoutMs, this.callId);
    const path = `${this.#path()}/acknowledge`;
    await this.#transport.request(path, { method: 'POST', signal, isSafe: true, deadline });
  }

  /**
   * The call's state each time that it changes, until it is finished. A cut connection is made again.
   * @throws SluiceError `data_lost` when the server lost the call
   */
  async *events(signal?: AbortSignal): AsyncGenerator<CallJson, void, undefined> {
    for (let attempt = 0; ; attempt++) {
      const response = await this.#transport.open(`${this.#path()}/events`, {
        headers: { accept: 'text/event-stream' },
        signal,
        isSafe: true,
      });
      for await (const event of serverEvents(response)) {
        if (event.name === 'error') {
          const problem = JSON.parse(event.data) as ProblemJson;
          throw problemError(problem.status ?? response.status, problem, event.data);
        }
        const call = JSON.parse(event.data) as CallJson;
        yield call;
        if (event.name === 'finished' || isFinished(call.status)) return;
        attempt = 0;
      }
      await pause(backOffMs(Math.min(attempt, 6)), signal);
    }
  }

  #path(): string {
    return `/v1/calls/${pathPart(this.callId)}`;
  }
}

export const endOf = (headers: Headers): CallEnd => {
  const number = (name: string): number | null => {
    const text = headers.get(name);
    return text === null || text === '' ? null : Number(text);
  };
  return {
    status: headers.get('x-call-status') ?? 'completed',
    rows: number('x-rows') ?? 0,
    rowsFailed: number('x-rows-failed') ?? 0,
    queueMs: number('x-queue-ms'),
    handlerMs: number('x-handler-ms'),
  };
};
