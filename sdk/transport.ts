/** One HTTP request, its body read, with what is safe to retry retried: back-off with jitter, Retry-After, a limit. */
import { PROBLEM_JSON, type ProblemJson } from '../shared/wire/api.ts';
import type { Deadline } from './deadline.ts';
import { ConnectionError, problemError, type SluiceError } from './errors.ts';

/** Made anew for each try, where it says how much time is left. */
type EachTry<T> = T | (() => T);

type GivenHeaders = Readonly<Record<string, string>>;

export type RequestOptions = {
  readonly method?: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  readonly headers?: EachTry<GivenHeaders>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal | undefined;
  /** The request may be sent again: it is a read, or its idempotency key makes it one. */
  readonly isSafe?: boolean;
  /** Past it nothing is sent again, and no answer is waited for. */
  readonly deadline?: Deadline | null | undefined;
  /**
   * Nobody wants it any more: what the server has not taken is not sent again. What it may have taken is, until `signal` aborts, so
   * that its answer tells what there is to be undone.
   */
  readonly unwanted?: AbortSignal | undefined;
};

type JsonOptions = RequestOptions & { readonly headers?: GivenHeaders };

/** A 2xx answer with its whole body. */
export class Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array;

  constructor({ status, headers }: Response, bytes: Uint8Array) {
    this.status = status;
    this.headers = headers;
    this.bytes = bytes;
  }

  json<T>(): T {
    return JSON.parse(new TextDecoder().decode(this.bytes)) as T;
  }
}

export type TransportOptions = {
  readonly url: string;
  readonly apiKey: string | null;
  readonly retries: number;
  readonly fetch: typeof fetch;
};

/** Waits between tries: 100 ms doubled up to 10 s, of which a half is random so that callers do not march in step. */
const WAIT_FIRST_MS = 100;
const WAIT_LONGEST_MS = 10_000;
/** A server that asks for a longer pause than this is waited for this long. */
const RETRY_AFTER_LONGEST_MS = 60_000;

export const backOffMs = (attempt: number, random: number = Math.random()): number =>
  Math.min(WAIT_LONGEST_MS, WAIT_FIRST_MS * 2 ** attempt) * (0.5 + random / 2);

/** Resolves after `ms`, rejects with the signal's reason when it aborts. */
export const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const done = (): void => {
      signal?.removeEventListener('abort', aborted);
      resolve();
    };
    const timer = setTimeout(done, ms);
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', aborted, { once: true });
  });

/** What `work` comes to; rejects with the signal's reason when that aborts first, and leaves the work to itself. */
export const unlessAborted = <T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    if (signal.aborted) aborted();
    signal.addEventListener('abort', aborted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
};

export const anyOf = (...signals: readonly (AbortSignal | undefined)[]): AbortSignal | undefined => {
  const given = signals.filter((signal) => signal !== undefined);
  return given.length > 1 ? AbortSignal.any(given) : given[0];
};

const retryAfterMs = (response: Response): number => {
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return Number.isFinite(seconds) ? Math.min(RETRY_AFTER_LONGEST_MS, Math.max(0, seconds * 1000)) : 0;
};

/** The server refused before it did anything, so that any method may be sent again. */
const isRefusal = (status: number): boolean => status === 429 || status === 503;
const isTransient = (status: number): boolean => status === 502 || status === 504;

/** Tries at an address that has never answered this client: it is more likely wrong than restarting. */
const FIRST_CONTACT_RETRIES = 2;

export class Transport {
  readonly #options: TransportOptions;
  #isReached = false;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  get url(): string {
    return this.#options.url;
  }

  /** A 2xx answer; every other becomes a `SluiceError`, none at all, or one that breaks off, a `ConnectionError`. */
  request(path: EachTry<string>, options: RequestOptions = {}): Promise<Answer> {
    return this.#answered(path, options, wholeAnswer);
  }

  /** The same with a body that is not read yet, for what comes bit by bit. */
  open(path: string, options: RequestOptions = {}): Promise<Response> {
    return this.#answered(path, options, async (response) => response);
  }

  async json<T>(path: string, options: JsonOptions = {}): Promise<T> {
    const headers = { accept: 'application/json', ...options.headers };
    return (await this.request(path, { ...options, headers })).json<T>();
  }

  async #answered<T>(path: EachTry<string>, options: RequestOptions, read: Read<T>): Promise<T> {
    const { signal, deadline, unwanted } = options;
    let mayBeTaken = false;
    for (let attempt = 0; ; attempt++) {
      if (!mayBeTaken) unwanted?.throwIfAborted();
      const tried = await this.#once(path, options, read);
      if ('answer' in tried) return tried.answer;
      const { error } = tried;
      const isHopeless = !this.#isReached && attempt >= FIRST_CONTACT_RETRIES;
      if (!tried.isAgain || isHopeless || attempt >= this.#options.retries) throw error;
      const waitMs = Math.max(tried.waitMs, backOffMs(attempt));
      const leftMs = deadline?.leftMs ?? Number.POSITIVE_INFINITY;
      mayBeTaken ||= !tried.isRefusal;
      await pause(Math.min(waitMs, leftMs), mayBeTaken ? signal : anyOf(signal, unwanted));
      if (waitMs < leftMs) continue;
      throw this.#isReached && !deadline!.isOnce ? deadline!.error(error) : error;
    }
  }

  async #once<T>(path: EachTry<string>, options: RequestOptions, read: Read<T>): Promise<Tried<T>> {
    const { url } = this.#options;
    const { signal, deadline, isSafe = false } = options;
    const late = new AbortController();
    const endWait = deadline?.onLate(() => late.abort());
    const stop = anyOf(signal, deadline ? late.signal : undefined);
    let isBegun = false;
    try {
      const response = await this.#options.fetch(`${url}${eachTry(path)}`, this.#init(options, stop));
      isBegun = true;
      this.#isReached = true;
      if (deadline?.isOnce) endWait?.();
      if (response.ok) return { answer: await read(response) };
      const refused = isRefusal(response.status);
      const isAgain = refused || (isSafe && isTransient(response.status));
      const error = await errorOf(response, stop);
      return { error, isAgain, isRefusal: refused, waitMs: retryAfterMs(response) };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (late.signal.aborted) throw deadline!.error(error);
      return {
        error: new ConnectionError(url, error, isBegun),
        isAgain: isSafe,
        isRefusal: false,
        waitMs: 0,
      };
    } finally {
      endWait?.();
    }
  }

  #init({ method = 'GET', headers = {}, body }: RequestOptions, signal?: AbortSignal): RequestInit {
    const { apiKey } = this.#options;
    return {
      method,
      headers: { ...eachTry(headers), ...(apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }) },
      ...(body === undefined ? {} : { body: body as NonNullable<RequestInit['body']> }),
      ...(signal ? { signal } : {}),
    };
  }
}

type Read<T> = (response: Response) => Promise<T>;

type Tried<T> =
  | { readonly answer: T }
  | {
      readonly error: SluiceError | ConnectionError;
      readonly isAgain: boolean;
      readonly isRefusal: boolean;
      readonly waitMs: number;
    };

const eachTry = <T extends string | object>(value: EachTry<T>): T =>
  typeof value === 'function' ? (value as () => T)() : value;

const wholeAnswer = async (response: Response): Promise<Answer> =>
  new Answer(response, new Uint8Array(await response.arrayBuffer()));

const errorOf = async (response: Response, stop?: AbortSignal): Promise<SluiceError> => {
  const text = await response.text().catch((error: unknown) => {
    if (stop?.aborted) throw error;
    return '';
  });
  const type = response.headers.get('content-type') ?? '';
  if (!type.startsWith(PROBLEM_JSON) && !type.startsWith('application/json'))
    return problemError(response.status, {}, text);
  try {
    return problemError(response.status, JSON.parse(text) as ProblemJson, text);
  } catch {
    return problemError(response.status, {}, text);
  }
};
