/** One HTTP request with what is safe to retry retried: back-off with jitter, Retry-After, a limit. */
import { PROBLEM_JSON, type ProblemJson } from '../shared/wire/api.ts';
import { ConnectionError, problemError, type SluiceError } from './errors.ts';

export type RequestOptions = {
  readonly method?: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal | undefined;
  /** The request may be sent again: it is a read, or its idempotency key makes it one. */
  readonly isSafe?: boolean;
};

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

  /** The response of a 2xx answer; every other becomes a `SluiceError`, none at all a `ConnectionError`. */
  async request(path: string, options: RequestOptions = {}): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      const left = attempt < this.#options.retries;
      const tried = await this.#once(path, options);
      if (tried instanceof Response) {
        this.#isReached = true;
        if (tried.ok) return tried;
        const again = isRefusal(tried.status) || (options.isSafe === true && isTransient(tried.status));
        const waitMs = Math.max(retryAfterMs(tried), backOffMs(attempt));
        const error = await errorOf(tried);
        if (!left || !again) throw error;
        await pause(waitMs, options.signal);
      } else {
        const isHopeless = !this.#isReached && attempt >= FIRST_CONTACT_RETRIES;
        if (!left || isHopeless || options.isSafe !== true) throw tried;
        await pause(backOffMs(attempt), options.signal);
      }
    }
  }

  async json<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.request(path, {
      ...options,
      headers: { accept: 'application/json', ...options.headers },
    });
    return (await response.json()) as T;
  }

  async #once(path: string, options: RequestOptions): Promise<Response | ConnectionError> {
    const { url, apiKey } = this.#options;
    const headers: Record<string, string> = { ...options.headers };
    if (apiKey !== null) headers.authorization = `Bearer ${apiKey}`;
    try {
      return await this.#options.fetch(`${url}${path}`, {
        method: options.method ?? 'GET',
        headers,
        ...(options.body === undefined ? {} : { body: options.body as NonNullable<RequestInit['body']> }),
        ...(options.signal ? { signal: options.signal } : {}),
      });
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      return new ConnectionError(url, error);
    }
  }
}

const errorOf = async (response: Response): Promise<SluiceError> => {
  const text = await response.text().catch(() => '');
  const type = response.headers.get('content-type') ?? '';
  if (!type.startsWith(PROBLEM_JSON) && !type.startsWith('application/json'))
    return problemError(response.status, {}, text);
  try {
    return problemError(response.status, JSON.parse(text) as ProblemJson, text);
  } catch {
    return problemError(response.status, {}, text);
  }
};
