/** One call and the list of calls: show, long-poll, list, cancel, acknowledge. */
import { type Call, isFinished } from '../../shared/domain/call.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { CallJson } from '../../shared/wire/api.ts';
import { presentCall } from '../../shared/wire/present.ts';
import * as wire from '../../shared/wire/schemas.ts';
import type { Identity } from './guard.ts';
import { requestWait } from './request-wait.ts';
import { countAnswer, identityOf, mayRead, type Room, type Routes, sendJson } from './room.ts';
import { answer, empty, problems, secured, WRITE_STATUSES } from './route-schema.ts';

const LIMIT = 100;

/**
 * A call that the caller may see.
 * @throws SluiceError `call_not_found`, `call_gone`
 */
export const ownCall = async (room: Room, id: string, identity: Identity): Promise<Call> => {
  const call = await room.store.queue.call(await room.ids.find(id, room.store.lineage));
  if (call === 'gone') throw new SluiceError('call_gone', `Call ${id} is past its retention.`);
  if (call === undefined || !mayRead(identity)(call.apiKeyId)) {
    throw new SluiceError('call_not_found', `There is no call ${id}.`);
  }
  return call;
};

export const viewOf = (room: Room, call: Call): CallJson =>
  presentCall(call, room.ids, room.store.queue.durability);

type ById = { Params: { id: string }; Querystring: { wait?: number } };
type Listing = { function?: string; status?: Call['status']; limit?: number; cursor?: string };

export const callRoutes: Routes = (app, room) => {
  addShow(app, room);
  addList(app, room);
  addCancel(app, room);
  addAcknowledge(app, room);
};

const addShow: Routes = (app, room) => {
  const label = 'GET /v1/calls/{id}';
  app.get<ById>(
    '/v1/calls/:id',
    {
      config: { scope: 'call', label },
      schema: {
        tags: ['calls'],
        summary: 'Show a call; with wait, when it is finished',
        security: secured,
        params: wire.idParams,
        querystring: wire.waitQuery,
        response: { 200: answer('The call.', wire.call), ...problems(404, 410, 429) },
      },
    },
    async (request, reply) => {
      const identity = identityOf(request);
      let call = await ownCall(room, request.params.id, identity);
      const waitMs = Math.min((request.query.wait ?? 0) * 1000, room.settings.waitMaxMs);
      if (waitMs > 0 && !isFinished(call.status)) {
        await requestWait(room, call.id, waitMs, reply.raw, 'end');
        call = await ownCall(room, request.params.id, identity);
      }
      countAnswer(label, 200);
      return sendJson(reply, 200, viewOf(room, call));
    },
  );
};

const addList: Routes = (app, room) => {
  const label = 'GET /v1/calls';
  app.get<{ Querystring: Listing }>(
    '/v1/calls',
    {
      config: { scope: 'call', label },
      schema: {
        tags: ['calls'],
        summary: 'List calls, newest first',
        security: secured,
        querystring: wire.listQuery,
        response: { 200: answer('A page of calls.', wire.callPage), ...problems() },
      },
    },
    async (request, reply) => {
      const { function: functionName, status, limit, cursor } = request.query;
      const identity = identityOf(request);
      const page = await room.store.queue.list({
        functionName: functionName ?? null,
        status: status ?? null,
        apiKeyId: identity.isAdmin ? null : identity.id,
        before: cursor === undefined ? null : cursorOf(room, cursor),
        limit: limit ?? LIMIT,
      });
      countAnswer(label, 200);
      return sendJson(reply, 200, {
        calls: page.calls.map((call) => viewOf(room, call)),
        next_cursor: page.next === null ? null : room.ids.encode(page.next),
      });
    },
  );
};

const cursorOf = (room: Room, cursor: string): number => {
  try {
    return room.ids.decode(cursor);
  } catch {
    throw new SluiceError(
      'invalid_request',
      `cursor is ${JSON.stringify(cursor)}; give the next_cursor of an earlier page.`,
      { field: 'cursor' },
    );
  }
};

const addCancel: Routes = (app, room) => {
  const label = 'DELETE /v1/calls/{id}';
  app.delete<ById>(
    '/v1/calls/:id',
    {
      config: { scope: 'call', label },
      schema: {
        tags: ['calls'],
        summary: 'Cancel what has not finished',
        security: secured,
        params: wire.idParams,
        querystring: wire.noQuery,
        response: { 200: answer('The call.', wire.call), ...problems(404, 410, ...WRITE_STATUSES) },
      },
    },
    async (request, reply) => {
      const identity = identityOf(request);
      const call = await ownCall(room, request.params.id, identity);
      if (!isFinished(call.status)) await room.store.queue.cancel({ now: Date.now(), callId: call.id });
      countAnswer(label, 200);
      return sendJson(reply, 200, viewOf(room, await ownCall(room, request.params.id, identity)));
    },
  );
};

const addAcknowledge: Routes = (app, room) => {
  const label = 'POST /v1/calls/{id}/acknowledge';
  app.post<ById>(
    '/v1/calls/:id/acknowledge',
    {
      config: { scope: 'call', label },
      schema: {
        tags: ['calls'],
        summary: 'The reader has the result; it may go soon',
        security: secured,
        params: wire.idParams,
        querystring: wire.noQuery,
        response: { 204: empty('Noted.'), ...problems(404, 409, 410, ...WRITE_STATUSES) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const call = await ownCall(room, id, identityOf(request));
      if (!isFinished(call.status)) {
        throw new SluiceError(
          'result_not_ready',
          `Call ${id} is ${call.status}; it has no whole result yet.`,
        );
      }
      await room.store.retention.acknowledge({ now: Date.now(), callId: call.id });
      countAnswer(label, 204);
      return reply.code(204).send();
    },
  );
};
