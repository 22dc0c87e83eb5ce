/** Artifacts: ask how far an upload is, send a piece of it, read. Bodies stream both ways; nothing is gathered in memory. */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { ArtifactState } from '../../shared/store/ports/artifacts.ts';
import {
  artifactHeaders,
  bytesHeaders,
  CONTENT_RANGE,
  ETAG,
  uploadHeaders,
} from '../../shared/wire/header-schemas.ts';
import * as wire from '../../shared/wire/schemas.ts';
import { refuseOtherTypes } from './body.ts';
import { type ByteRange, byteRange } from './byte-range.ts';
import { encodingOf } from './decoded-body.ts';
import { isRangeMeant, preconditionOf } from './preconditions.ts';
import { countAnswer, type Routes } from './room.ts';
import { empty, problems, secured } from './route-schema.ts';

const URL = '/v1/artifacts/:digest';
const OCTETS = 'application/octet-stream';

type Named = { Params: { digest: string } };

const params = Type.Object({
  digest: Type.String({ description: '`sha256:` and 64 lower-case hex digits of the bytes.' }),
});
const digits = Type.String({ pattern: '^\\d{1,16}$' });

const schemaOf = (summary: string, response: object, more: object = {}) => ({
  ...{ tags: ['artifacts'], summary, security: secured, params, querystring: wire.noQuery, response },
  ...more,
});

export const artifactRoutes: Routes = (app, room) => {
  // The stream itself is the body; the limit of other routes is for bodies that are held in memory.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(OCTETS, (_request, payload, done) => done(null, payload));
  refuseOtherTypes(app, OCTETS);
  addHead(app, room);
  addPatch(app, room);
  addGet(app, room);
};

const addHead: Routes = (app, room) => {
  const label = 'HEAD /v1/artifacts/{digest}';
  const about = 'How far it is: `upload-offset`, `upload-length`, `upload-complete: ?1` or `?0`.';
  app.head<Named>(
    URL,
    {
      config: { scope: 'deploy', label, ...{ swagger: { exposeHeadRoute: true } } },
      schema: schemaOf('How far the upload of an artifact is', {
        200: empty(about, uploadHeaders),
        ...problems(404),
      }),
    },
    async (request, reply) => {
      const state = await room.artifacts.state(request.params.digest);
      countAnswer(label, 200);
      return withState(reply, state).header('cache-control', 'no-store').code(200).send();
    },
  );
};

const addPatch: Routes = (app, room) => {
  const label = 'PATCH /v1/artifacts/{digest}';
  app.route<Named>({
    method: 'PATCH',
    url: URL,
    config: { scope: 'deploy', label, streamedBody: true },
    schema: schemaOf(
      'Send a piece of an artifact',
      {
        204: empty(
          'It has the bytes up to the new `upload-offset`; `upload-complete: ?1` with the last.',
          uploadHeaders,
        ),
        ...problems(404, 409, 413, 415, 422, 507),
      },
      {
        consumes: [OCTETS],
        headers: Type.Object({ 'upload-offset': digits, 'upload-length': digits }),
        body: { content: { [OCTETS]: { schema: Type.String({ format: 'binary' }) } } },
      },
    ),
    // The body is a stream, and the headers are checked below, in words of their own.
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      const state = await room.artifacts.append(pieceOf(request));
      countAnswer(label, 204);
      return withState(reply, state).code(204).send();
    },
  });
};

const addGet: Routes = (app, room) => {
  const label = 'GET /v1/artifacts/{digest}';
  const bytes = { content: { [OCTETS]: { schema: Type.String({ format: 'binary' }) } } };
  app.get<Named>(
    URL,
    {
      exposeHeadRoute: false,
      config: { scope: 'call', label, takes: artifactHeaders },
      schema: schemaOf('The bytes of an artifact', {
        200: { description: 'All of them.', headers: bytesHeaders, ...bytes },
        206: {
          description: 'Those that `range: bytes=FROM-TO` asked for.',
          headers: { ...bytesHeaders, ...CONTENT_RANGE },
          ...bytes,
        },
        304: empty('The asker has them, as If-None-Match says.', ETAG),
        ...problems(404, 412, 416),
      }),
    },
    async (request, reply) => {
      const { digest } = request.params;
      const state = await room.artifacts.state(digest);
      const etag = `"${digest}"`;
      if (state.isComplete && preconditionOf(request.headers, etag) === 'unchanged') {
        countAnswer(label, 304);
        return reply.code(304).header('etag', etag).send();
      }
      const isRanged = state.isComplete && isRangeMeant(request.headers, etag);
      const range = isRanged ? rangeOf(request, reply, state.receivedBytes) : null;
      const { bytes: total, body } = await room.artifacts.read({
        digest,
        ...(range === null ? {} : { fromByte: range.from, toByte: range.to }),
      });
      const { from, to } = range ?? { from: 0, to: total };
      const status = range === null ? 200 : 206;
      if (range !== null) reply.header('content-range', `bytes ${from}-${to - 1}/${total}`);
      countAnswer(label, status);
      return reply
        .code(status)
        .headers({ 'accept-ranges': 'bytes', etag, 'x-content-type-options': 'nosniff' })
        .header('content-type', OCTETS)
        .header('content-length', to - from)
        .send(Readable.from(body, { objectMode: false, highWaterMark: 2 ** 18 }));
    },
  );
};

const withState = (reply: FastifyReply, state: ArtifactState): FastifyReply => {
  reply.header('upload-offset', state.receivedBytes);
  if (state.bytes !== null) reply.header('upload-length', state.bytes);
  return reply.header('upload-complete', state.isComplete ? '?1' : '?0');
};

const rangeOf = (request: FastifyRequest, reply: FastifyReply, bytes: number): ByteRange | null => {
  try {
    return byteRange(request.headers.range, bytes);
  } catch (error) {
    reply.header('content-range', `bytes */${bytes}`);
    throw error;
  }
};

const countOf = (request: FastifyRequest, name: 'upload-offset' | 'upload-length'): number => {
  const text = request.headers[name];
  const count = typeof text === 'string' && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(count)) return count;
  const shown = text === undefined ? 'missing' : JSON.stringify(String(text).slice(0, 40));
  throw new SluiceError('invalid_request', `The header ${name} is ${shown}; it takes a number of bytes.`, {
    field: name,
  });
};

const pieceOf = (request: FastifyRequest<Named>) => {
  const { headers, raw } = request;
  const offsetBytes = countOf(request, 'upload-offset');
  const bytes = countOf(request, 'upload-length');
  const encoding = encodingOf(headers['content-encoding']);
  if (encoding !== null)
    throw new SluiceError(
      'unsupported_media_type',
      `content-encoding is ${JSON.stringify(encoding.slice(0, 40))}; pieces of an artifact are sent as they are.`,
      { field: 'content-encoding' },
    );
  if (offsetBytes <= bytes && Number(headers['content-length'] ?? 0) > bytes - offsetBytes)
    throw new SluiceError(
      'payload_too_large',
      `The body has ${headers['content-length']} bytes, and from upload-offset ${offsetBytes} to upload-length ${bytes} there are fewer.`,
      { field: 'content-length' },
    );
  return { digest: request.params.digest, offsetBytes, bytes, body: chunksOf(raw) };
};

/** A body that is given up in its middle must not take the connection with it: the answer goes there. */
const chunksOf = (raw: IncomingMessage): AsyncIterable<Uint8Array> => ({
  [Symbol.asyncIterator]: () => raw.iterator({ destroyOnReturn: false }),
});
