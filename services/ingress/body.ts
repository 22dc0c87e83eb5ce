/** Request bodies: content types, limits on the decoded size, and what those that are under way hold. */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { flagOf, type Settings } from '../../shared/config/settings.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { Slab } from '../../shared/runtime/slab.ts';
import { ARROW_STREAM } from '../../shared/wire/api.ts';
import { parseJsonObject } from '../calls/submission.ts';
import { BodyBudget, type HeldBody } from './body-budget.ts';
import { type Cut, collectBody } from './collected-body.ts';
import { decodeBody, decoderOf, encodingOf } from './decoded-body.ts';

type Done = (error: Error | null, body?: unknown) => void;
/** Of tensors in binary, JSON is but the beginning. */
type Form = 'json' | 'arrow' | 'tensors';
type Limits = Pick<Settings, 'bodyBytesMax' | 'jsonBytesMax'>;

/** What is left of a refused body up to this size is read and thrown away, so that the sender is sure to see the answer. */
const DISCARDED_BYTES_MAX = 32 * 2 ** 20;

/** The bodies of one thread's requests. */
export class Bodies {
  readonly #limits: Limits;
  readonly #budget: BodyBudget;
  readonly #underWay = new Slab<Cut>();

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#budget = new BodyBudget(limits.bodyBytesMax);
  }

  /** For a request that is to be answered: its body counts from here. */
  expect({ headers }: FastifyRequest, reply: FastifyReply): HeldBody | null {
    return this.#budget.open(headers, reply.raw);
  }

  /** Gives the handler the decoded bytes where the route says `rawBody`, else the parsed object. */
  take(request: FastifyRequest, payload: IncomingMessage, form: Form, done: Done): void {
    const { limitBytes, tooLarge } = this.#limitOf(request, form);
    const { held } = request;
    const encoding = encodingOf(request.headers['content-encoding']);
    // Before any of it is read.
    if (encoding !== null) decoderOf(encoding);
    const isShared = form === 'arrow' && encoding === null;
    const finish = (failure: Error | null, body?: Buffer): void => {
      let error = failure;
      let value: unknown;
      try {
        if (error === null) value = parsed(request, body!, form);
      } catch (thrown) {
        error = thrown as Error;
      }
      done(error, value);
    };
    collectBody(
      payload,
      { limitBytes, tooLarge, isShared, held, underWay: this.#underWay },
      (error, body) => {
        if (error !== null || encoding === null) finish(error, body);
        else decodeBody(body!, { encoding, limitBytes, tooLarge, held }, finish);
      },
    );
  }

  /** Bodies that are not whole are not waited for. */
  cut(): void {
    const error = new SluiceError('shutting_down', 'The server is shutting down, and the body is not whole.');
    for (const cut of this.#underWay) cut(error);
  }

  /** JSON costs many times its bytes while it is parsed, and so has a lower limit than bytes that are only looked at. */
  #limitOf({ routeOptions }: FastifyRequest, form: Form) {
    const { bodyBytesMax, jsonBytesMax } = this.#limits;
    const { bodyLimit = bodyBytesMax } = routeOptions;
    const isOwn = bodyLimit < bodyBytesMax;
    const limitBytes = isOwn || form !== 'json' ? bodyLimit : Math.min(bodyLimit, jsonBytesMax);
    return { limitBytes, tooLarge: () => this.#tooLarge(limitBytes, form) };
  }

  #tooLarge(limitBytes: number, form: Form): SluiceError {
    const { bodyBytesMax, jsonBytesMax } = this.#limits;
    let limit = 'the limit of this route';
    if (limitBytes === bodyBytesMax) limit = `the server's ${flagOf('bodyBytesMax')}`;
    else if (form === 'json' && limitBytes === jsonBytesMax) limit = `the server's ${flagOf('jsonBytesMax')}`;
    const detail = `The body is larger than ${limitBytes} bytes when it is decoded, which is ${limit}.`;
    return new SluiceError('payload_too_large', detail, { limit_bytes: limitBytes });
  }
}

/** @throws SluiceError `invalid_json`, `unsupported_media_type` */
const parsed = ({ routeOptions }: FastifyRequest, bytes: Buffer, form: Form): unknown => {
  if (routeOptions.config.rawBody === true) return bytes;
  if (bytes.length === 0) return undefined;
  if (form === 'arrow') throw new SluiceError('unsupported_media_type', 'This route takes application/json.');
  return parseJsonObject(bytes);
};

export const addBodyParsers = (app: FastifyInstance, bodies: Bodies): void => {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', (request, payload, done) =>
    bodies.take(request, payload, 'json', done),
  );
  app.addContentTypeParser(ARROW_STREAM, (request, payload, done) =>
    bodies.take(request, payload, 'arrow', done),
  );
  refuseOtherTypes(app, `application/json, or ${ARROW_STREAM} where rows are sent`);
};

/** In place of fastify's own refusal, which names neither the type that came nor those that would do. */
export const refuseOtherTypes = (app: FastifyInstance, wanted: string): void => {
  app.addContentTypeParser('*', ({ headers }, _payload, done) => {
    const type = headers['content-type'];
    const shown = type === undefined ? 'missing' : JSON.stringify(type.slice(0, 80));
    const detail = `The header content-type is ${shown}; this route takes ${wanted}.`;
    done(new SluiceError('unsupported_media_type', detail, { field: 'content-type' }));
  });
};

/** Where much is left of a refused body, or nobody knows how much, the connection ends with the answer. */
export const closeUnlessRead = ({ raw, headers }: FastifyRequest, reply: FastifyReply): void => {
  if (raw.readableEnded) return;
  const isLong =
    headers['transfer-encoding'] !== undefined ||
    Number(headers['content-length'] ?? 0) > DISCARDED_BYTES_MAX;
  if (isLong) reply.header('connection', 'close');
};
