/**
 * Requests to one engine, at the address of its replica and nowhere else: an IP address, so that no name is looked up, no
 * redirect is followed, and no proxy of our environment is asked.
 */
import { isIP } from 'node:net';
import { Readable } from 'node:stream';
import { errors, Pool } from 'undici';
import { BugError } from '../../shared/errors/sluice-error.ts';

/** Below what servers keep an idle connection for (gunicorn: 2 s): they close it just when the next request comes. */
const KEEP_ALIVE_MS = 1000;
const CONNECT_MS_MAX = 10_000;
/** An answer is held in memory, and its JSON is parsed as one string, of which the engine of ours takes 512 MiB. */
export const ANSWER_BYTES_MAX = 256 * 2 ** 20;

export type EngineAddress = {
  /** An IP address. */
  readonly host: string;
  readonly port: number;
};

/** As URLs have it, without the port where that is 80: a redirect's is compared with it. */
export const originOf = ({ host, port }: EngineAddress): string => {
  const version = isIP(host);
  if (version === 0) throw new BugError(`an engine's address is ${host}, no IP address`);
  return new URL(`http://${version === 6 ? `[${host}]` : host}:${port}`).origin;
};

export type EngineRequest = {
  readonly path: string;
  /** null: GET. */
  readonly body: readonly Uint8Array[] | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
};

export type Reply = {
  readonly status: number;
  /** The first value of a header; names in lower case. */
  readonly header: (name: string) => string | undefined;
  readonly body: Buffer;
};

/** The answer is no HTTP, or above what is held of it; the engine itself goes on. */
export class WrongReply extends Error {}

/** Nobody answers, or the connection ended before the answer did. */
export class BrokenConnection extends Error {}

const bytesOf = (chunks: readonly Uint8Array[]): number =>
  chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null ? String(Reflect.get(error, 'code') ?? '') : '';

/** What undici says, in the words of whoever reads it in a row's error. */
export const connectionText = (error: unknown): string => {
  const code = codeOf(error);
  if (code === 'ECONNREFUSED') return 'nobody listens there (ECONNREFUSED)';
  if (error instanceof errors.ConnectTimeoutError) return `no connection within ${CONNECT_MS_MAX} ms`;
  const message = error instanceof Error ? error.message : String(error);
  return code === '' || message.includes(code) ? message : `${message} (${code})`;
};

export class EngineConnection {
  readonly #pool: Pool;
  readonly #answerBytesMax: number;

  constructor(address: EngineAddress, answerBytesMax = ANSWER_BYTES_MAX) {
    this.#answerBytesMax = answerBytesMax;
    // Batches run one at a time, so one connection is enough. How long an answer takes is the call timeout's to say.
    this.#pool = new Pool(originOf(address), {
      connections: 1,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      connect: { timeout: CONNECT_MS_MAX },
      headersTimeout: 0,
      bodyTimeout: 0,
      maxResponseSize: answerBytesMax,
    });
  }

  /** @throws WrongReply, BrokenConnection; the signal's reason when it is aborted */
  async request({ path, body, headers, signal }: EngineRequest): Promise<Reply> {
    try {
      const answer = await this.#pool.request({
        path,
        method: body === null ? 'GET' : 'POST',
        headers: body === null ? headers : { ...headers, 'content-length': String(bytesOf(body)) },
        body: body === null ? null : body.length === 1 ? body[0]! : Readable.from(body),
        signal,
      });
      const bytes = Buffer.from(await answer.body.arrayBuffer());
      return { status: answer.statusCode, header: (name) => firstOf(answer.headers[name]), body: bytes };
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof errors.ResponseExceededMaxSizeError)
        throw new WrongReply(`the engine's answer is larger than ${this.#answerBytesMax} bytes`);
      if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError)
        throw new WrongReply(`the engine's answer is no HTTP: ${error.message}`);
      throw new BrokenConnection(connectionText(error));
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

const firstOf = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value[0] : value;
