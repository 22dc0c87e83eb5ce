/** The Open Inference Protocol v2 over HTTP, under /v2: https://github.com/kserve/open-inference-protocol */
import type { ServerResponse } from 'node:http';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type TSchema, Type } from 'typebox';
import { withinStack } from '../../../shared/errors/nesting.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import {
  callHeaders,
  INFERENCE_JSON_BYTES,
  refusalHeaders,
  timesHeaders,
} from '../../../shared/wire/header-schemas.ts';
import { type InferAnswer, inferAnswer, inferRequest } from '../../../shared/wire/oip/index.ts';
import * as wire from '../../../shared/wire/oip/schemas.ts';
import { noQuery } from '../../../shared/wire/schemas.ts';
import { closeUnlessRead } from '../body.ts';
import { ownBody } from '../described-body.ts';
import { expectedError, internalError } from '../problem.ts';
import { countAnswer, identityOf, type Room, type Routes, sendJson } from '../room.ts';
import { answer, BODY_STATUSES, secured } from '../route-schema.ts';
import { CallerGone, responseWaiter } from '../waited-call.ts';
import type { Inferences, Inferred } from './inference.ts';
import { OIP_JSON, oipProblem } from './oip-error.ts';
import {
  currentOf,
  EXTENSIONS,
  modelIndex,
  modelMetadata,
  modelOf,
  versionName,
  versionOf,
  whyNotReady,
} from './served-model.ts';

type ModelRequest = { Params: { name: string; version?: string }; Body: Buffer | undefined };

const tags = ['open inference protocol'];
export const REPOSITORY_INDEX = '/v2/repository/index';
const OCTETS = 'application/octet-stream';
/** How long the JSON is before the binary tensors, in requests and in answers. */
const JSON_LENGTH = 'inference-header-content-length';

const errors = (...statuses: readonly number[]): object =>
  Object.fromEntries(
    [...statuses, 500].map((status) => [
      status,
      answer('An error, with its code in the text.', wire.oipError, refusalHeaders(status)),
    ]),
  );

export const oipRoutes =
  (inferences: Inferences): Routes =>
  (app, room) => {
    takeEveryBody(app, room);
    app.setErrorHandler((error: FastifyError, request, reply) => answerError(room, error, request, reply));
    addServerRoutes(app, room);
    for (const version of ['', '/versions/:version']) {
      addModelRoutes(app, room, version);
      addInferRoute(app, room, inferences, version);
    }
  };

/** Clients name the type of a body in many ways, or not at all; what it is, the headers of the protocol say. */
const takeEveryBody = (app: FastifyInstance, room: Room): void => {
  const { bodies, settings } = room;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (request, payload, done) => {
    // Tensors in binary are only looked at; the JSON before them is parsed.
    const isShort = Number(request.headers[JSON_LENGTH] ?? Number.NaN) <= settings.jsonBytesMax;
    bodies.take(request, payload, isShort ? 'tensors' : 'json', done);
  });
};

const answerError = (room: Room, thrown: unknown, request: FastifyRequest, reply: FastifyReply): void => {
  let error = expectedError(thrown);
  if (error === null) {
    error = internalError(request.id);
    room.log.error({ err: thrown, request: request.id, url: request.url }, 'an inference broke');
  }
  const { label = 'unknown', rawBody } = request.routeOptions.config;
  if (rawBody === true) metrics.refusals.inc({ code: error.code });
  const problem = oipProblem(error);
  closeUnlessRead(request, reply);
  countAnswer(label, problem.status);
  reply.code(problem.status).headers(problem.headers).send(Buffer.from(problem.body));
};

const described = (summary: string, view: TSchema, more: object = {}) => ({
  ...{ tags, summary, querystring: noQuery, response: { 200: answer('Done.', view), ...errors(400) } },
  ...more,
});

const isTaking = ({ state }: Room): boolean => !(state.isLeaving || state.isDraining);

const addServerRoutes = (app: FastifyInstance, room: Room): void => {
  app.get('/v2', { schema: described('What this server is', wire.serverMetadata) }, (_request, reply) => {
    sendJson(reply, 200, { name: 'sluice', version: room.version, extensions: EXTENSIONS });
  });
  app.get(
    '/v2/health/live',
    { schema: described('The server lives', wire.serverLive) },
    (_request, reply) => {
      sendJson(reply, 200, { live: true });
    },
  );
  const notReady = { 503: answer('It takes no new work.', wire.serverReady) };
  const response = { 200: answer('It takes work.', wire.serverReady), ...notReady, ...errors(400) };
  app.get(
    '/v2/health/ready',
    { schema: described('The server takes work', wire.serverReady, { response }) },
    async (_request, reply) => {
      const ready = isTaking(room);
      if (ready) await room.store.retention.usage();
      return sendJson(reply, ready ? 200 : 503, { ready });
    },
  );
  const label = `POST ${REPOSITORY_INDEX}`;
  app.post<{ Body: { ready?: unknown } | undefined }>(
    REPOSITORY_INDEX,
    {
      config: { scope: 'call', label },
      bodyLimit: 4096,
      validatorCompiler: ownBody(app),
      schema: {
        ...described('List models', wire.modelIndex),
        security: secured,
        body: wire.indexQuestion,
        response: {
          200: answer('All of them.', wire.modelIndex),
          ...errors(400, 401, 403, ...BODY_STATUSES, 503),
        },
      },
    },
    async (request, reply) => {
      const models = await modelIndex(room, isReadyOnly(request.body));
      countAnswer(label, 200);
      return sendJson(reply, 200, models);
    },
  );
};

/** Clients send no body at all, or one with what else they know. */
const isReadyOnly = (body: { ready?: unknown } | undefined): boolean => {
  const { ready = false } = body ?? {};
  if (typeof ready === 'boolean') return ready;
  const shown = JSON.stringify(ready).slice(0, 80);
  throw new SluiceError('invalid_request', `ready is ${shown}; give true or false.`, { field: 'ready' });
};

const addModelRoutes = (app: FastifyInstance, room: Room, version: string): void => {
  const url = `/v2/models/:name${version}`;
  const path = url.replace(/:([a-z]+)/g, '{$1}');
  const params = version === '' ? wire.modelParams : wire.versionParams;
  const of = (what: string) => (version === '' ? what : `${what}, by version`);
  const schemaOf = (summary: string, view: TSchema) => ({
    ...described(of(summary), view, { params, security: secured }),
    response: { 200: answer('Done.', view), ...errors(400, 401, 403, 404, 503) },
  });
  app.get<ModelRequest>(
    url,
    {
      config: { scope: 'call', label: `GET ${path}` },
      schema: schemaOf('What a model takes and answers', wire.modelMetadata),
    },
    async (request, reply) => {
      const { name, version: wanted = null } = request.params;
      const record = await modelOf(room, name);
      countAnswer(`GET ${path}`, 200);
      return sendJson(reply, 200, modelMetadata(name, record, versionOf(record, wanted)));
    },
  );
  const readyLabel = `GET ${path}/ready`;
  const readySchema = schemaOf('Whether a model is ready', wire.modelReady);
  const notReady = {
    400: answer('Not ready, or no such request.', Type.Union([wire.modelReady, wire.oipError])),
  };
  app.get<ModelRequest>(
    `${url}/ready`,
    {
      config: { scope: 'call', label: readyLabel },
      schema: { ...readySchema, response: { ...readySchema.response, ...notReady } },
    },
    async (request, reply) => {
      const { name, version: wanted = null } = request.params;
      const record = await modelOf(room, name);
      const reason = await whyNotReady(room, record, versionOf(record, wanted));
      // Clients take any 4xx for "not ready", as the protocol says, and 5xx for a failure.
      const status = reason === null ? 200 : 400;
      countAnswer(readyLabel, status);
      if (reason === null) return sendJson(reply, 200, { name, ready: true });
      return sendJson(reply, 400, { name, ready: false, error: `${name} is not ready: ${reason}.` });
    },
  );
};

const inferBody = {
  content: {
    'application/json': { schema: wire.inferRequest },
    [OCTETS]: { schema: Type.String({ format: 'binary', description: 'JSON, then binary tensors.' }) },
  },
};
const inferred = {
  description: 'The outputs; in the binary form, JSON and then the tensors.',
  headers: { ...timesHeaders, ...INFERENCE_JSON_BYTES },
  content: {
    'application/json': { schema: wire.inferResponse },
    [OCTETS]: { schema: Type.String({ format: 'binary' }) },
  },
};

const addInferRoute = (app: FastifyInstance, room: Room, inferences: Inferences, version: string): void => {
  const url = `/v2/models/:name${version}/infer`;
  const label = `POST ${url.replace(/:([a-z]+)/g, '{$1}')}`;
  app.post<ModelRequest>(
    url,
    {
      config: { scope: 'call', rawBody: true, label, takes: { ...callHeaders, ...INFERENCE_JSON_BYTES } },
      validatorCompiler: () => () => true,
      schema: {
        ...{ tags, summary: `Infer${version === '' ? '' : ', by version'}`, security: secured },
        ...{ consumes: ['application/json', OCTETS], body: inferBody, querystring: noQuery },
        params: version === '' ? wire.modelParams : wire.versionParams,
        response: {
          200: inferred,
          ...errors(400, 401, 403, 404, 406, 409, 410, 413, 415, 422, 429, 503, 504, 507),
        },
      },
    },
    async (request, reply) => {
      const { name, version: wanted = null } = request.params;
      if (request.body === undefined) throw new SluiceError('invalid_json', 'The request has no body.');
      const record = await modelOf(room, name);
      const current = currentOf(record, wanted);
      const header = request.headers[JSON_LENGTH];
      const { body } = request;
      const asked = withinStack('The JSON', () =>
        inferRequest(body, typeof header === 'string' ? header : undefined),
      );
      const { tensors, outputs, timeoutMs, id } = asked;
      const { headers } = request;
      const names = outputs === null ? null : new Set(outputs.map((output) => output.name));
      const inference = { record, tensors, wanted: names, timeoutMs, headers, caller: identityOf(request) };
      try {
        const found = await inferences.infer(inference, responseWaiter(reply.raw));
        const isBinary = (tensor: string): boolean =>
          outputs?.find((output) => output.name === tensor)?.isBinary ?? asked.isBinary;
        const head = { model: name, version: versionName(current), id };
        const encoded = inferAnswer(head, found.tensors, isBinary);
        countAnswer(label, 200);
        reply.hijack();
        writeInferred(reply.raw, encoded, found, request.id);
      } catch (error) {
        if (!(error instanceof CallerGone)) throw error;
        reply.hijack();
        reply.raw.destroy();
      }
    },
  );
};

/** A reader that takes nothing for so long has gone, and its answer is freed. */
const STALL_MS = 60_000;

const writeInferred = (
  response: ServerResponse,
  { chunks, bytes, jsonBytes }: InferAnswer,
  { callId, queueMs, handlerMs }: Inferred,
  requestId: string,
): void => {
  if (response.destroyed) return;
  const headers: Record<string, string> = {
    'content-type': jsonBytes === null ? OIP_JSON : OCTETS,
    'content-length': String(bytes),
    'x-call-id': callId,
    'x-handler-ms': String(Math.round(handlerMs * 1000) / 1000),
    'x-request-id': requestId,
    'x-content-type-options': 'nosniff',
  };
  if (jsonBytes !== null) headers[JSON_LENGTH] = String(jsonBytes);
  if (queueMs !== null) headers['x-queue-ms'] = String(Math.round(queueMs * 1000) / 1000);
  response.writeHead(200, headers);
  const { socket } = response;
  const before = socket?.timeout ?? 0;
  socket?.setTimeout(STALL_MS);
  response.once('finish', () => socket?.setTimeout(before));
  for (const chunk of chunks) response.write(chunk);
  response.end();
};
