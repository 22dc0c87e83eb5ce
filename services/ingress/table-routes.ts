/** Routes as a table: each entry says what a route is called, takes and answers; all are added alike. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type TSchema, Type } from 'typebox';
import type { Scope } from '../../shared/store/ports/keys.ts';
import { type HeaderSchemas, LOCATION } from '../../shared/wire/header-schemas.ts';
import * as wire from '../../shared/wire/schemas.ts';
import { describedBody } from './described-body.ts';
import { countAnswer, type Room, sendJson } from './room.ts';
import { answer, empty, problems, secured, writeStatuses } from './route-schema.ts';

export type Asked = {
  readonly room: Room;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly body: unknown;
  readonly request: FastifyRequest;
  readonly now: number;
};

/** `at`: where what was made lies, for a 201. */
export type Answered = { readonly value: unknown; readonly at?: string };

export type TableEntry = {
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  /** With {name} for a parameter; lower-case letters only. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly scope: Scope;
  readonly body?: TSchema;
  readonly bodyBytesMax?: number;
  readonly query?: TSchema;
  /** Headers that it looks at. */
  readonly takes?: HeaderSchemas;
  /** null: 204. */
  readonly view: TSchema | null;
  /** Set where something may come to be: 201 for what is new, 200 for what was there. */
  readonly makes?: true;
  readonly statuses?: readonly number[];
  readonly work: (asked: Asked) => Promise<Answered | undefined>;
};

const BODY_BYTES_MAX = 2 ** 20;

const paramsOf = (path: string): TSchema =>
  Type.Object(
    Object.fromEntries([...path.matchAll(/\{([a-z]+)\}/g)].map(([, name]) => [name!, Type.String()])),
  );

const successOf = ({ view, makes }: TableEntry) => {
  if (view === null) return { 204: empty('Done.') };
  return { 200: answer('Done.', view), ...(makes ? { 201: answer('Something new.', view, LOCATION) } : {}) };
};

export const addEntry = (app: FastifyInstance, room: Room, entry: TableEntry): void => {
  const { method, path, tag, summary, scope, body, query, takes, statuses = [], work } = entry;
  const label = `${method} ${path}`;
  app.route({
    method,
    url: path.replace(/\{([a-z]+)\}/g, ':$1'),
    bodyLimit: Math.min(entry.bodyBytesMax ?? BODY_BYTES_MAX, room.settings.bodyBytesMax),
    config: { scope, label, ...(takes === undefined ? {} : { takes }) },
    validatorCompiler: describedBody(app),
    schema: {
      ...{ tags: [tag], summary, security: secured, querystring: query ?? wire.noQuery },
      ...(path.includes('{') ? { params: paramsOf(path) } : {}),
      ...(body === undefined ? {} : { body }),
      response: {
        ...successOf(entry),
        ...problems(404, ...writeStatuses(method), ...(body === undefined ? [] : [422]), ...statuses),
      },
    },
    handler: async (request, reply) => {
      const {
        params,
        query: asked,
        body: sent,
      } = request as { params: Asked['params']; query: Asked['query']; body: unknown };
      const answered = await work({ room, params, query: asked, body: sent, request, now: Date.now() });
      const status = answered === undefined ? 204 : answered.at === undefined ? 200 : 201;
      countAnswer(label, status);
      if (answered === undefined) return reply.code(204).send();
      if (answered.at !== undefined) reply.header('location', answered.at);
      return sendJson(reply, status, answered.value);
    },
  });
};
