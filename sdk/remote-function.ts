/** A function on the server, as its callers hold it. */
import { ARROW_STREAM, type CallJson, type FunctionJson } from '../shared/wire/api.ts';
import { CallHandle, type WaitOptions, waitSeconds } from './call-handle.ts';
import {
  type ChunkedCallOptions,
  type ChunkedResult,
  checkChunkOptions,
  chunkedCall,
} from './chunked-call.ts';
import { Deadline } from './deadline.ts';
import { CallFailedError, SluiceError, TimeoutError } from './errors.ts';
import {
  type Batch,
  type CallInput,
  type Columns,
  encodeBatch,
  type FieldsSource,
  toBatch,
} from './input.ts';
import { pathPart } from './path-part.ts';
import { decodeResult } from './result.ts';
import { type Answer, anyOf, type Transport, unlessAborted } from './transport.ts';

export type CallOptions = {
  /** −100 to 100; higher goes first. */
  readonly priority?: number | undefined;
  /** The fairness key; by default the API key. */
  readonly lane?: string | undefined;
  /** Rows that have not started this long from now expire. */
  readonly deadlineMs?: number | undefined;
  /** Texts that the handler sees in its context, 4 KiB in all. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** The same key and rows again attach to the same call. By default a random key, so that retries are safe. */
  readonly idempotencyKey?: string | undefined;
  /** W3C trace context of the caller. */
  readonly traceparent?: string | undefined;
  /** Stops the submission; it does not cancel a call that was accepted. */
  readonly signal?: AbortSignal | undefined;
};

/** What rows of `Inputs` may be given as; with `unknown` inputs, anything that a call takes. */
export type InputOf<Inputs> = unknown extends Inputs
  ? CallInput
  :
      | readonly Inputs[]
      | { readonly [K in keyof Inputs]: ArrayLike<Inputs[K]> }
      | Exclude<CallInput, Columns | readonly unknown[]>;

/** How long the server's answer is waited for, and whether it is wanted at all (see `RequestOptions`). */
type Patience = { readonly deadline?: Deadline | null; readonly unwanted?: AbortSignal };

/** The function as the server shows it, asked for once by all who wait for it, and given up when nobody does. */
type Asked = { readonly shown: Promise<FunctionJson>; readonly stop: AbortController; waiting: number };

export class RemoteFunction<Inputs = unknown, Output = unknown> {
  readonly name: string;
  readonly #transport: Transport;
  #asked: Asked | null = null;

  constructor(transport: Transport, name: string) {
    this.#transport = transport;
    this.name = name;
  }

  /** Submits the rows; resolves once the server has accepted them. Await `handle.get()` for the results. */
  async deferBatch(
    input: InputOf<Inputs>,
    options: CallOptions & WaitOptions = {},
  ): Promise<CallHandle<Output>> {
    const deadline = Deadline.in(options.timeoutMs);
    const batch = await toBatch(input as CallInput, this.#fields(deadline, options.signal));
    return this.submit(batch, options, { deadline });
  }

  /** Submits the rows and waits for the results, one entry a row. */
  async call(input: InputOf<Inputs>, options: CallOptions & WaitOptions = {}): Promise<Output[]> {
    const { timeoutMs, signal } = options;
    const deadline = Deadline.in(timeoutMs);
    const batch = await toBatch(input as CallInput, this.#fields(deadline, signal));
    const headers = () => ({ prefer: `wait=${waitSeconds(deadline)}`, accept: ARROW_STREAM });
    const answer = await this.#post(batch, options, headers, { deadline });
    if (answer.status === 202) {
      const handle = this.#handle(answer);
      if (deadline === null) return handle.get({ signal });
      const { leftMs } = deadline;
      if (leftMs === 0) throw new TimeoutError(handle.callId, deadline.timeoutMs);
      return handle.get({ timeoutMs: leftMs, signal });
    }
    const { values, errors } = decodeResult(answer.bytes);
    if (errors.size > 0) throw new CallFailedError(answer.headers.get('x-call-id') ?? '', errors, values);
    return values as Output[];
  }

  /** Cuts the rows into chunks, keeps some of them in flight and joins the results in row order. */
  async chunkedCall(input: InputOf<Inputs>, options: ChunkedCallOptions): Promise<ChunkedResult<Output>> {
    checkChunkOptions(options);
    const deadline = Deadline.in(options.timeoutMs);
    const batch = await toBatch(input as CallInput, this.#fields(deadline, options.signal));
    return chunkedCall<Output>(this, batch, options);
  }

  /** The function as the server shows it. */
  show(signal?: AbortSignal): Promise<FunctionJson> {
    return this.#transport.json<FunctionJson>(this.#path(), { signal, isSafe: true });
  }

  async submit(batch: Batch, options: CallOptions, patience: Patience = {}): Promise<CallHandle<Output>> {
    const headers = () => ({ accept: 'application/json' });
    return this.#handle(await this.#post(batch, options, headers, patience));
  }

  #handle(answer: Answer): CallHandle<Output> {
    const call = answer.json<CallJson>();
    return new CallHandle<Output>(this.#transport, call.call_id, call);
  }

  async #post(
    batch: Batch,
    options: CallOptions,
    headers: () => Record<string, string>,
    { deadline = null, unwanted }: Patience,
  ): Promise<Answer> {
    const key = options.idempotencyKey ?? crypto.randomUUID();
    const { signal } = options;
    const send = async (): Promise<Answer> => {
      const { isArrow, body } = await encodeBatch(batch, this.#fields(deadline, signal, unwanted));
      return this.#transport.request(`${this.#path()}/calls`, {
        method: 'POST',
        body,
        headers: () => ({
          ...headers(),
          ...optionHeaders(options),
          'content-type': isArrow ? ARROW_STREAM : 'application/json',
          'idempotency-key': key,
        }),
        signal,
        isSafe: true,
        deadline,
        unwanted,
      });
    };
    try {
      return await send();
    } catch (error) {
      // The inputs may have changed with a deploy since they were asked for: once more with the new ones.
      const isStale =
        error instanceof SluiceError && error.code === 'schema_mismatch' && this.#asked !== null;
      if (!isStale || batch.kind !== 'columns') throw error;
      this.#asked = null;
      return send();
    }
  }

  #fields(deadline: Deadline | null, ...signals: readonly (AbortSignal | undefined)[]): FieldsSource {
    return async () => {
      this.#asked ??= this.#ask();
      const asked = this.#asked;
      asked.waiting++;
      try {
        const shown = deadline?.bound(asked.shown) ?? asked.shown;
        return (await unlessAborted(shown, anyOf(...signals))).spec.inputs;
      } catch (error) {
        if (this.#asked === asked) this.#asked = null;
        throw error;
      } finally {
        asked.waiting--;
        if (asked.waiting === 0) asked.stop.abort();
      }
    };
  }

  #ask(): Asked {
    const stop = new AbortController();
    return { shown: this.show(stop.signal), stop, waiting: 0 };
  }

  #path(): string {
    return `/v1/functions/${pathPart(this.name)}`;
  }
}

/** The options as headers, which JSON and Arrow bodies share. */
const optionHeaders = (options: CallOptions): Record<string, string> => {
  const headers: Record<string, string> = {};
  if (options.priority !== undefined) headers['sluice-priority'] = String(options.priority);
  if (options.lane !== undefined) headers['sluice-lane'] = byteText(options.lane);
  if (options.deadlineMs !== undefined) headers['sluice-deadline-ms'] = String(options.deadlineMs);
  if (options.metadata !== undefined) headers['sluice-metadata'] = asciiJson(options.metadata);
  if (options.traceparent !== undefined) headers.traceparent = options.traceparent;
  return headers;
};

/** Header values are bytes; the server reads them as UTF-8. */
const byteText = (text: string): string => String.fromCharCode(...new TextEncoder().encode(text));

/** Header values are ASCII; JSON escapes the rest. */
const asciiJson = (value: unknown): string =>
  JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
