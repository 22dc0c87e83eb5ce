/** One thread's HTTP server: limits, errors, authentication and documentation around the routes of each area. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
} from 'fastify';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { metrics } from '../../shared/runtime/metrics.ts';
import type { Scope } from '../../shared/store/ports/keys.ts';
import { artifactRoutes } from './artifact-routes.ts';
import { addBodyParsers, closeUnlessRead } from './body.ts';
import { callRoutes } from './call-routes.ts';
import { dashboardRoutes } from './dashboard-routes.ts';
import { refuseMembers } from './described-body.ts';
import { driftRoutes } from './drift-routes.ts';
import { engineRoutes } from './engine-routes.ts';
import { shapedProblem } from './error-shape.ts';
import { eventRoutes } from './event-routes.ts';
import { FreeConnections } from './free-connections.ts';
import { functionRoutes } from './function-routes.ts';
import { checkScope, type Identity } from './guard.ts';
import { inferenceRoutes } from './inference-routes.ts';
import { keyRoutes } from './key-routes.ts';
import { modelRoutes } from './model-routes.ts';
import type { Inferences } from './oip/inference.ts';
import { oipRoutes } from './oip/rest-routes.ts';
import { openaiRoutes } from './openai/openai-routes.ts';
import { addDocumentation } from './openapi-document.ts';
import { expectedError, internalError, type Problem, rawProblem, writeProblem } from './problem.ts';
import { resultRoutes } from './result-routes.ts';
import { countAnswer, type Room } from './room.ts';
import { scalingGroupRoutes } from './scaling-group-routes.ts';
import { serverRoutes } from './server-routes.ts';
import { submitRoutes } from './submit-routes.ts';
import { useTypebox } from './validation.ts';

/** A request's head must be there in this time, a request as a whole in that: slow senders hold a socket, not a thread. */
const HEADERS_MS = 20_000;
const REQUEST_MS = 300_000;
const KEEP_ALIVE_MS = 72_000;
/** Above the longest wait, so that a long poll is never taken for a dead connection. */
const IDLE_MARGIN_MS = 60_000;
const HEADER_BYTES_MAX = 16 * 1024;
const REQUEST_ID = /^[\w.:-]{1,64}$/;

let requests = 0;
const idPrefix = Math.random().toString(36).slice(2, 8);

const ownRequestId = (): string => {
  requests += 1;
  return `${idPrefix}-${requests.toString(36)}`;
};

const requestId = (request: { headers: Record<string, string | string[] | undefined> }): string => {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : ownRequestId();
};

export type HttpServer = {
  readonly app: FastifyInstance;
  /** Ends the connections that do nothing now, and what waits for the rest of a body; for a drain, again and again until all are gone. */
  readonly closeIdle: () => void;
};

export const makeHttpServer = async (
  room: Room,
  connectionsMax: number,
  inferences: Inferences,
): Promise<HttpServer> => {
  const { settings } = room;
  const app = fastify({
    logger: false,
    bodyLimit: settings.bodyBytesMax,
    genReqId: requestId as never,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionTimeout: settings.waitMaxMs + IDLE_MARGIN_MS,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    http: { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: HEADERS_MS, connectionsCheckingInterval: 5000 },
    routerOptions: { maxParamLength: 256, ignoreTrailingSlash: false },
    clientErrorHandler: (error, socket) => answerBrokenHttp(error, socket),
    // No hook of ours runs for these.
    frameworkErrors: (error, request, reply) =>
      answerError(
        room,
        error,
        request as FastifyRequest,
        (reply as FastifyReply).header('x-request-id', request.id),
      ),
  });
  app.server.maxConnections = connectionsMax;
  app.decorateRequest('identity', null);
  app.decorateRequest('held', null);
  useTypebox(app);
  addBodyParsers(app, room.bodies);
  refuseMembers(app);
  const free = new FreeConnections(app.server);
  const answerNotFound = methodAnswers(app);
  addHooks(app, room, free, answerNotFound);
  app.setNotFoundHandler(answerNotFound);
  app.setErrorHandler((error: FastifyError, request, reply) => answerError(room, error, request, reply));
  await addDocumentation(app, room.version);
  for (const add of [
    submitRoutes,
    callRoutes,
    resultRoutes,
    eventRoutes,
    functionRoutes,
    keyRoutes,
    artifactRoutes,
    modelRoutes,
    openaiRoutes,
    scalingGroupRoutes,
    inferenceRoutes,
    driftRoutes,
    engineRoutes,
    oipRoutes(inferences),
    serverRoutes,
    dashboardRoutes,
  ]) {
    app.register(async (scope) => add(scope, room));
  }
  app.server.on('checkExpectation', ({ headers, url = '' }: IncomingMessage, response: ServerResponse) => {
    const detail = `Expect is ${JSON.stringify(headers.expect)}; give 100-continue, or none.`;
    const error = new SluiceError('invalid_request', detail, { field: 'Expect' });
    writeProblem(response, shapedProblem(url, error, 417), requestId({ headers }));
  });
  await app.ready();
  const closeIdle = (): void => {
    room.bodies.cut();
    free.close();
    app.server.closeIdleConnections();
  };
  return { app, closeIdle };
};

type ClientError = Error & { readonly code?: string; readonly reason?: string };

/** A request that is still being answered on the connection gets its answer first: this one must not be taken for it. */
const answerBrokenHttp = (error: ClientError, socket: Socket): void => {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const end = (): void => {
    socket.end(rawProblem(error.code, error.reason ?? error.message, ownRequestId()));
  };
  // Node's own default handler looks at the same member; there is no public one.
  const { _httpMessage: answering } = socket as Socket & { _httpMessage?: ServerResponse | null };
  // Of a request that is not complete, these bytes are the broken rest.
  if (answering == null || (!answering.req.complete && !answering.headersSent)) end();
  else if (answering.headersSent) socket.destroy();
  else answering.once('finish', end);
};

const labelOf = (request: FastifyRequest): string => request.routeOptions.config.label ?? 'unknown';

const answerError = (room: Room, thrown: unknown, request: FastifyRequest, reply: FastifyReply): void => {
  let error = expectedError(thrown);
  if (error === null) {
    error = internalError(request.id);
    room.log.error({ err: thrown, request: request.id, url: request.url }, 'a request broke');
  }
  if (request.method === 'POST' && request.routeOptions.config.rawBody)
    metrics.refusals.inc({ code: error.code });
  const problem = shapedProblem(request.url, error);
  sendProblem(request, reply, problem);
  countAnswer(labelOf(request), problem.status);
};

const sendProblem = (
  request: FastifyRequest,
  reply: FastifyReply,
  { status, headers, body }: Problem,
): void => {
  closeUnlessRead(request, reply);
  reply.code(status).headers(headers).send(Buffer.from(body));
};

const addHooks = (
  app: FastifyInstance,
  room: Room,
  free: FreeConnections,
  answerNotFound: Answering,
): void => {
  app.addHook('onRequest', (request, reply, done) => {
    free.used(request.raw.socket);
    if (room.state.isDraining) reply.raw.setHeader('connection', 'close');
    const refuse = (error: Error): void => {
      free.refused(request.raw, reply.raw);
      done(error);
    };
    // Nobody asks for the body: it is not read.
    if (request.is404) {
      free.refused(request.raw, reply.raw);
      return answerNotFound(request, reply);
    }
    let entering: Promise<void> | undefined;
    try {
      entering = enter(room, request, reply);
    } catch (error) {
      return refuse(error as Error);
    }
    if (entering === undefined) done();
    else entering.then(() => done(), refuse);
  });
  // What is written past fastify, submissions above all, names its request itself.
  app.addHook('onSend', ({ id }, reply, payload, done) => {
    reply.header('x-request-id', id);
    done(null, payload);
  });
};

/** At once where the caller is known, which it is but once in a few seconds. */
const enter = (room: Room, request: FastifyRequest, reply: FastifyReply): Promise<void> | undefined => {
  const { scope } = request.routeOptions.config;
  if (scope === undefined) return expectBody(room, request, reply);
  const identity = room.guard.identify(request.headers);
  if (identity instanceof Promise) return identity.then((found) => allow(room, request, reply, found, scope));
  return allow(room, request, reply, identity, scope);
};

const allow = (
  room: Room,
  request: FastifyRequest,
  reply: FastifyReply,
  identity: Identity,
  scope: Scope,
): undefined => {
  checkScope(identity, scope);
  request.identity = identity;
  return expectBody(room, request, reply);
};

const expectBody = (room: Room, request: FastifyRequest, reply: FastifyReply): undefined => {
  if (request.routeOptions.config.streamedBody !== true) request.held = room.bodies.expect(request, reply);
};

type Answering = (request: FastifyRequest, reply: FastifyReply) => void;

/** 404 where nothing is, 405 with Allow where another method would do. */
const methodAnswers = (app: FastifyInstance): Answering => {
  const routes: { readonly method: string; readonly pattern: RegExp }[] = [];
  app.addHook('onRoute', (route) => {
    const pattern = new RegExp(`^${route.url.replace(/:[a-z]+/g, '[^/]+').replaceAll('.', '\\.')}$`);
    for (const method of [route.method].flat()) routes.push({ method, pattern });
  });
  return (request, reply) => {
    const path = request.url.split('?', 1)[0]!;
    const methods = new Set(routes.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method));
    const allow = [...methods].sort().join(', ');
    const shown = `${request.method} ${JSON.stringify(path.slice(0, 200))}`;
    const error =
      allow === ''
        ? new SluiceError('not_found', `There is no ${shown}.`)
        : new SluiceError('method_not_allowed', `${shown} is not allowed; ${allow} are.`, { allow });
    const problem = shapedProblem(path, error);
    sendProblem(request, reply, problem);
    countAnswer('unknown', problem.status);
  };
};
