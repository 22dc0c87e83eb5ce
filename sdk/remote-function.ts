/** A function on the server, as its callers hold it. */
import { ARROW_STREAM, type CallJson, type FunctionJson } from '../shared/wire/api.ts';
import { CallHandle, type WaitOptions, waitSeconds } from './call-handle.ts';
import { type ChunkedCallOptions, type ChunkedResult, chunkedCall } from './chunked-call.ts';
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
import type { Answer, Transport } from './transport.ts';

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

export class RemoteFunction<Inputs = unknown, Output = unknown> {
  readonly name: string;
  readonly #transport: Transport;
  #shown: Promise<FunctionJson> | null = null;

  constructor(transport: Transport, name: string) {
    this.#transport = transport;
    this.name = name;
  }

  /** Submits the rows; resolves once the server has accepted them. Await `handle.get()` for the results. */
  async deferBatch(input: InputOf<Inputs>, options: CallOptions = {}): Promise<CallHandle<Output>> {
    return this.submit(await this.batch(input), options);
  }

  /** Submits the rows and waits for the results, one entry a row. */
  async call(input: InputOf<Inputs>, options: CallOptions & WaitOptions = {}): Promise<Output[]> {
    const { timeoutMs, signal } = options;
    const deadline = timeoutMs === undefined ? null : new Deadline(timeoutMs);
    const batch = await toBatch(input as CallInput, this.#fields(deadline));
    const headers = () => ({ prefer: `wait=${waitSeconds(deadline)}`, accept: ARROW_STREAM });
    const answer = await this.#post(batch, options, headers, deadline);
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
    return chunkedCall<Output>(this, await this.batch(input), options);
  }

  /** The function as the server shows it. */
  show(signal?: AbortSignal): Promise<FunctionJson> {
    return this.#transport.json<FunctionJson>(this.#path(), { signal, isSafe: true });
  }

  /** The normal form of an input; asks the server for the declared inputs only where they are needed. */
  batch(input: InputOf<Inputs>): Promise<Batch> {
    return toBatch(input as CallInput, this.#fields());
  }

  async submit(batch: Batch, options: CallOptions): Promise<CallHandle<Output>> {
    return this.#handle(await this.#post(batch, options, () => ({ accept: 'application/json' })));
  }

  #handle(answer: Answer): CallHandle<Output> {
    const call = answer.json<CallJson>();
    return new CallHandle<Output>(this.#transport, call.call_id, call);
  }

  async #post(
    batch: Batch,
    options: CallOptions,
    headers: () => Record<string, string>,
    deadline: Deadline | null = null,
  ): Promise<Answer> {
    const key = options.idempotencyKey ?? crypto.randomUUID();
    const send = async (): Promise<Answer> => {
      const { isArrow, body } = await encodeBatch(batch, this.#fields(deadline));
      return this.#transport.request(`${this.#path()}/calls`, {
        method: 'POST',
        body,
        headers: () => ({
          ...headers(),
          ...optionHeaders(options),
          'content-type': isArrow ? ARROW_STREAM : 'application/json',
          'idempotency-key': key,
        }),
        signal: options.signal,
        isSafe: true,
        deadline,
      });
    };
    try {
      return await send();
    } catch (error) {
      // The inputs may have changed with a deploy since they were asked for: once more with the new ones.
      const isStale =
        error instanceof SluiceError && error.code === 'schema_mismatch' && this.#shown !== null;
      if (!isStale || batch.kind !== 'columns') throw error;
      this.#shown = null;
      return send();
    }
  }

  #fields(deadline: Deadline | null = null): FieldsSource {
    return async () => {
      this.#shown ??= this.show();
      try {
        return (await (deadline?.bound(this.#shown) ?? this.#shown)).spec.inputs;
      } catch (error) {
        this.#shown = null;
        throw error;
      }
    };
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
