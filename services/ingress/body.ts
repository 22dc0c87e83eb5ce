/**
 * Request bodies: content types, compressed bodies with a limit on the decoded size, and a budget for what all requests
 * of a thread hold at once.
 */
import { brotliDecompress, gunzip, inflate, zstdDecompress } from 'node:zlib';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { ARROW_STREAM } from '../../shared/wire/api.ts';
import { parseJsonObject } from '../calls/submission.ts';
import { collectBody } from './collected-body.ts';

type Done = (error: Error | null, body?: unknown) => void;
type Decode = (
  body: Buffer,
  options: { maxOutputLength: number },
  done: (error: Error | null, decoded: Buffer) => void,
) => void;

const DECODERS: Readonly<Record<string, Decode>> = {
  gzip: gunzip,
  'x-gzip': gunzip,
  deflate: inflate,
  zstd: zstdDecompress,
  br: brotliDecompress,
};

/** A thread may hold so many full bodies at once; more is refused for a moment instead of running out of memory. */
const BODIES_HELD_MAX = 4;
/** Bodies below this are not counted: the connections' limit bounds them. */
const COUNTED_BYTES_MIN = 2 ** 20;

const tooLarge = (limitBytes: number): SluiceError =>
  new SluiceError('payload_too_large', `The body is larger than ${limitBytes} bytes when it is decoded.`);

const decode = (encoding: string, body: Buffer, limitBytes: number, done: Done): void => {
  const decoder = DECODERS[encoding];
  if (decoder === undefined) {
    const known = Object.keys(DECODERS).join(', ');
    const shown = JSON.stringify(encoding.slice(0, 64));
    done(new SluiceError('unsupported_media_type', `Content-Encoding is ${shown}; use one of ${known}.`));
    return;
  }
  decoder(body, { maxOutputLength: limitBytes }, (error, decoded) => {
    if (error === null) done(null, decoded);
    else if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') done(tooLarge(limitBytes));
    else
      done(new SluiceError('invalid_request', `The body does not decode as ${encoding}: ${error.message}.`));
  });
};

/** Gives the handler the decoded bytes where the route says `rawBody`, else the parsed object. */
export const takeBody = (
  request: FastifyRequest,
  body: Buffer,
  limitBytes: number,
  isJson: boolean,
  done: Done,
): void => {
  const finish: Done = (error, decoded) => {
    if (error !== null) return done(error);
    const bytes = decoded as Buffer;
    if (request.routeOptions.config.rawBody === true) return done(null, bytes);
    if (bytes.length === 0) return done(null, undefined);
    if (!isJson) return done(new SluiceError('unsupported_media_type', 'This route takes application/json.'));
    try {
      done(null, parseJsonObject(bytes));
    } catch (thrown) {
      done(thrown as Error);
    }
  };
  const encoding = request.headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity') finish(null, body);
  else decode(encoding.trim().toLowerCase(), body, limitBytes, finish);
};

export const addBodyParsers = (app: FastifyInstance, limitBytes: number): void => {
  app.removeAllContentTypeParsers();
  const limitOf = ({ routeOptions }: FastifyRequest): number =>
    Math.min(limitBytes, routeOptions.bodyLimit ?? limitBytes);
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    takeBody(request, body as Buffer, limitOf(request), true, done);
  });
  app.addContentTypeParser(ARROW_STREAM, (request, payload, done) => {
    const limit = limitOf(request);
    collectBody(
      payload,
      limit,
      () => tooLarge(limit),
      (error, body) => (error === null ? takeBody(request, body!, limit, false, done) : done(error)),
    );
  });
  refuseOtherTypes(app, `application/json, or ${ARROW_STREAM} where rows are sent`);
};

/** In place of fastify's own refusal, which names neither the type that came nor those that would do. */
export const refuseOtherTypes = (app: FastifyInstance, wanted: string): void => {
  app.addContentTypeParser('*', ({ headers, is404 }, _payload, done) => {
    // Where there is no route, that is the answer.
    if (is404) return done(null, undefined);
    const type = headers['content-type'];
    const shown = type === undefined ? 'missing' : JSON.stringify(type.slice(0, 80));
    const detail = `The header content-type is ${shown}; this route takes ${wanted}.`;
    done(new SluiceError('unsupported_media_type', detail, { field: 'content-type' }));
  });
};

export class BodyBudget {
  #left: number;
  readonly #bodyBytesMax: number;

  constructor(bodyBytesMax: number) {
    this.#bodyBytesMax = bodyBytesMax;
    this.#left = bodyBytesMax * BODIES_HELD_MAX;
  }

  /** Takes the body's bytes until the response is over; a body of unknown or compressed size counts as the largest. */
  hold(request: FastifyRequest, release: (free: () => void) => void): void {
    const { headers } = request;
    const isOpen = headers['transfer-encoding'] !== undefined || headers['content-encoding'] !== undefined;
    const length = isOpen ? this.#bodyBytesMax : Number(headers['content-length'] ?? 0);
    if (!(length >= COUNTED_BYTES_MIN) || length > this.#bodyBytesMax) return;
    if (length > this.#left) {
      throw new SluiceError('queue_full', 'The server reads as many large request bodies as it may hold.', {
        retry_after_seconds: 1,
      });
    }
    this.#left -= length;
    release(() => {
      this.#left += length;
    });
  }
}
