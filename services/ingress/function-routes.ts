/** Functions: deploy, list, show, update, pause, resume, purge, repin, logs, delete. */
import type { TSchema } from 'typebox';
import type { Scope } from '../../shared/store/ports/keys.ts';
import { LOCATION } from '../../shared/wire/header-schemas.ts';
import * as wire from '../../shared/wire/schemas.ts';
import type { Identity } from './guard.ts';
import { functionFor } from './hidden-variables.ts';
import { countAnswer, identityOf, type Room, type Routes, sendJson } from './room.ts';
import { answer, empty, problems, secured, WRITE_STATUSES, writeStatuses } from './route-schema.ts';

/** Source of 64 MiB in base64, and what surrounds it. */
const DEPLOY_BYTES_MAX = 96 * 2 ** 20;
const LOG_LINES = 200;

type Named = { Params: { name: string } };
type Work = (
  room: Room,
  name: string,
  body: unknown,
  query: Record<string, unknown>,
  reader: Identity,
) => Promise<unknown>;

type Entry = {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly summary: string;
  readonly scope: Scope;
  readonly body?: TSchema;
  readonly query?: TSchema;
  /** null: 204. */
  readonly view: TSchema | null;
  readonly statuses?: readonly number[];
  readonly work: Work;
};

type Repin = { readonly from: string; readonly to: string };

const ENTRIES: readonly Entry[] = [
  {
    ...{ method: 'GET', path: '', summary: 'Show a function', scope: 'call', view: wire.functionView },
    work: async (room, name, _body, _query, reader) => functionFor(reader, await room.functions.show(name)),
  },
  {
    ...{
      method: 'PATCH',
      path: '',
      summary: 'Change batching limits, from the next batch on',
      scope: 'deploy',
    },
    ...{ view: wire.functionView, body: wire.functionPatch, statuses: [422] },
    work: (room, name, body) => room.functions.update(name, body),
  },
  {
    ...{ method: 'DELETE', path: '', summary: 'Delete a function without unfinished calls', scope: 'deploy' },
    ...{ view: null, statuses: [409] },
    work: (room, name) => room.functions.remove(name),
  },
  {
    ...{ method: 'POST', path: '/pause', summary: 'Stop sealing; admission goes on', scope: 'deploy' },
    view: wire.functionView,
    work: (room, name) => room.functions.pause(name, true),
  },
  {
    ...{ method: 'POST', path: '/resume', summary: 'Seal again', scope: 'deploy', view: wire.functionView },
    work: (room, name) => room.functions.pause(name, false),
  },
  {
    ...{
      method: 'POST',
      path: '/purge',
      summary: 'Cancel every unfinished call',
      scope: 'deploy',
      view: wire.purged,
    },
    work: (room, name) => room.functions.purge(name),
  },
  {
    ...{ method: 'POST', path: '/repin', summary: 'Move waiting calls to another version', scope: 'deploy' },
    ...{ view: wire.repinned, body: wire.repinRequest, statuses: [409] },
    work: (room, name, body) => room.functions.repin(name, (body as Repin).from, (body as Repin).to),
  },
  {
    ...{ method: 'GET', path: '/logs', summary: 'What handlers printed, oldest first', scope: 'deploy' },
    ...{ view: wire.logs, query: wire.logsQuery },
    work: async (room, name, _body, { limit }) => ({
      lines: await room.functions.logs(name, (limit as number | undefined) ?? LOG_LINES),
    }),
  },
];

export const functionRoutes: Routes = (app, room) => {
  addDeploy(app, room);
  addList(app, room);
  for (const entry of ENTRIES) addEntry(app, room, entry);
};

const addEntry = (app: Parameters<Routes>[0], room: Room, entry: Entry): void => {
  const { method, path, summary, scope, body, query, view, statuses = [], work } = entry;
  const label = `${method} /v1/functions/{name}${path}`;
  const success = view === null ? { 204: empty('Done.') } : { 200: answer('Done.', view) };
  app.route<Named>({
    method,
    url: `/v1/functions/:name${path}`,
    config: { scope, label },
    schema: {
      ...{ tags: ['functions'], summary, security: secured, params: wire.nameParams },
      querystring: query ?? wire.noQuery,
      ...(body === undefined ? {} : { body }),
      response: { ...success, ...problems(404, ...writeStatuses(method), ...statuses) },
    },
    handler: async (request, reply) => {
      const value = await work(
        room,
        request.params.name,
        request.body,
        request.query as Record<string, unknown>,
        identityOf(request),
      );
      countAnswer(label, view === null ? 204 : 200);
      return view === null ? reply.code(204).send() : sendJson(reply, 200, value);
    },
  });
};

const addDeploy: Routes = (app, room) => {
  const label = 'POST /v1/functions';
  app.post<{ Body: { function: unknown } }>(
    '/v1/functions',
    {
      bodyLimit: Math.min(DEPLOY_BYTES_MAX, room.settings.bodyBytesMax),
      config: { scope: 'deploy', label },
      schema: {
        tags: ['functions'],
        summary: 'Register a function, or a new version of it',
        security: secured,
        querystring: wire.noQuery,
        body: wire.deployment,
        response: {
          200: answer('The same spec was registered before.', wire.functionView),
          201: answer('A new version.', wire.functionView, LOCATION),
          ...problems(...WRITE_STATUSES, 422),
        },
      },
    },
    async (request, reply) => {
      const { created, view } = await room.functions.deploy(request.body.function);
      countAnswer(label, created ? 201 : 200);
      if (created) reply.header('location', `/v1/functions/${encodeURIComponent(view.name)}`);
      return sendJson(reply, created ? 201 : 200, view);
    },
  );
};

const addList: Routes = (app, room) => {
  const label = 'GET /v1/functions';
  app.get(
    '/v1/functions',
    {
      config: { scope: 'call', label },
      schema: {
        tags: ['functions'],
        summary: 'List functions',
        security: secured,
        querystring: wire.noQuery,
        response: { 200: answer('Every function.', wire.functionList), ...problems() },
      },
    },
    async (request, reply) => {
      const functions = await room.functions.list();
      countAnswer(label, 200);
      const reader = identityOf(request);
      return sendJson(reply, 200, { functions: functions.map((one) => functionFor(reader, one)) });
    },
  );
};
