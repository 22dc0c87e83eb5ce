/** How routes of OpenAI's API answer: JSON, and errors in OpenAI's shape, whatever went wrong before or in them. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import { refusalHeaders } from '../../../shared/wire/header-schemas.ts';
import { openaiError, openaiStatus } from '../../../shared/wire/openai/openai-error.ts';
import { openaiFailure } from '../../../shared/wire/openai/schemas.ts';
import { closeUnlessRead } from '../body.ts';
import { expectedError, internalError, type Problem, problemOf } from '../problem.ts';
import { countAnswer, type Room } from '../room.ts';
import { answer } from '../route-schema.ts';
import { CallerGone } from '../waited-call.ts';

export const openaiProblem = (error: SluiceError, status = openaiStatus(error)): Problem => ({
  status,
  headers: { ...problemOf(error, status).headers, 'content-type': 'application/json; charset=utf-8' },
  body: JSON.stringify(openaiError(error, status)),
});

/** Paths whose clients expect errors in this shape, routes that are not there among them. */
export const isOpenaiPath = (url: string): boolean =>
  /^\/v1\/(?:embeddings|completions|chat|files|batches)(?:[/?]|$)/.test(url);

/** For routes of this scope, their refusals at the door among them. */
export const answerInOpenaiShape = (app: FastifyInstance, room: Room): void => {
  app.setErrorHandler((thrown: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
    if (thrown instanceof CallerGone) {
      // Nobody reads it; fastify wants an answer all the same.
      reply.code(499).send();
      return;
    }
    let error = expectedError(thrown);
    if (error === null) {
      error = internalError(request.id);
      room.log.error({ err: thrown, request: request.id, url: request.url }, 'a request broke');
    }
    const { label = 'unknown', scope } = request.routeOptions.config;
    if (scope === 'call' && request.method === 'POST') metrics.refusals.inc({ code: error.code });
    const { status, headers, body } = openaiProblem(error);
    closeUnlessRead(request, reply);
    countAnswer(label, status);
    reply.code(status).headers(headers).send(body);
  });
};

const MEANINGS: Readonly<Record<number, string>> = {
  400: 'The request is not valid.',
  401: 'No valid API key.',
  403: 'The key lacks a scope.',
  404: 'Nothing is here.',
  409: 'Not in this state.',
  413: 'The body is too large.',
  415: 'The content type is not supported.',
  422: 'The idempotency key was used with another body.',
  429: 'The queue is full.',
  500: 'The handler failed, or the server did.',
  503: 'The server is shutting down, or its store is not reached.',
  504: 'There was no answer in time.',
  507: "The disk limit is reached, or the store's memory is nearly full.",
};

/** The documented failures of a route. */
export const failures = (...statuses: readonly number[]) =>
  Object.fromEntries(
    [...statuses, 400, 401, 403, 500, 503].map((status) => [
      status,
      answer(MEANINGS[status]!, openaiFailure, refusalHeaders(status)),
    ]),
  );
