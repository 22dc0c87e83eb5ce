/** GET /v1/calls/{id}/result: the rows' answers in row order. */
import { isFinished } from '../../shared/domain/call.ts';
import * as wire from '../../shared/wire/schemas.ts';
import { resultForm } from '../results/negotiation.ts';
import { writeAnswer } from './answer.ts';
import { ownCall } from './call-routes.ts';
import { expectedError, internalError, problemOf, writeProblem } from './problem.ts';
import { requestWait } from './request-wait.ts';
import { countAnswer, identityOf, mayRead, type Routes } from './room.ts';
import { problems, resultAnswer, secured } from './route-schema.ts';

const LABEL = 'GET /v1/calls/{id}/result';

type Query = { Params: { id: string }; Querystring: { wait?: number; partial?: boolean } };

export const resultRoutes: Routes = (app, room) => {
  app.get<Query>(
    '/v1/calls/:id/result',
    {
      exposeHeadRoute: false,
      config: { scope: 'call', label: LABEL },
      schema: {
        tags: ['calls'],
        summary: 'The result in row order',
        security: secured,
        params: wire.idParams,
        querystring: wire.resultQuery,
        response: { 200: resultAnswer, ...problems(404, 406, 409, 410, 429) },
      },
    },
    async (request, reply) => {
      const identity = identityOf(request);
      const form = resultForm(request.headers.accept);
      const { wait = 0, partial = false } = request.query;
      const callId = await room.ids.find(request.params.id, room.store.lineage);
      const waitMs = Math.min(wait * 1000, room.settings.waitMaxMs);
      if (waitMs > 0) {
        const call = await ownCall(room, request.params.id, identity);
        if (!isFinished(call.status)) await requestWait(room, callId, waitMs, reply.raw, 'result');
      }
      const found = await room.results.read(callId, form, partial, mayRead(identity));
      countAnswer(LABEL, 200);
      reply.hijack();
      try {
        await writeAnswer(reply.raw, 200, found, request.id);
      } catch (error) {
        // fastify has let go of the answer: what breaks a page is ours to tell, or to cut off where rows are on their way.
        const known = expectedError(error) ?? internalError(request.id);
        if (known.code === 'internal') room.log.error({ err: error, request: request.id }, 'a result broke');
        writeProblem(reply.raw, problemOf(known), request.id);
      }
    },
  );
};
