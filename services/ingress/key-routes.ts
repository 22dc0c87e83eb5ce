/** API keys: make, list, revoke. */
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Scope } from '../../shared/store/ports/keys.ts';
import { presentKey } from '../../shared/wire/present.ts';
import * as wire from '../../shared/wire/schemas.ts';
import { checkNotLast, createApiKey } from './api-keys.ts';
import { countAnswer, type Routes, sendJson } from './room.ts';
import { answer, empty, problems, secured, WRITE_STATUSES } from './route-schema.ts';

const BODY_BYTES_MAX = 64 * 1024;

export const keyRoutes: Routes = (app, room) => {
  app.post<{ Body: { name: string; scopes: Scope[] } }>(
    '/v1/keys',
    {
      bodyLimit: BODY_BYTES_MAX,
      config: { scope: 'admin', label: 'POST /v1/keys' },
      schema: {
        tags: ['keys'],
        summary: 'Make an API key; the secret is in this answer only',
        security: secured,
        querystring: wire.noQuery,
        body: wire.keyRequest,
        response: { 201: answer('The key and its secret.', wire.key), ...problems(...WRITE_STATUSES) },
      },
    },
    async (request, reply) => {
      const { key, secret } = await createApiKey(room.store.keys, request.body.name, request.body.scopes);
      await room.keysChanged();
      countAnswer('POST /v1/keys', 201);
      return sendJson(reply.header('cache-control', 'no-store'), 201, presentKey(key, secret));
    },
  );
  addList(app, room);
  addRevoke(app, room);
};

const addList: Routes = (app, room) => {
  app.get(
    '/v1/keys',
    {
      config: { scope: 'admin', label: 'GET /v1/keys' },
      schema: {
        tags: ['keys'],
        summary: 'List API keys',
        security: secured,
        querystring: wire.noQuery,
        response: { 200: answer('Every key, without secrets.', wire.keyList), ...problems() },
      },
    },
    async (_request, reply) => {
      const keys = await room.store.keys.list();
      countAnswer('GET /v1/keys', 200);
      return sendJson(reply, 200, { keys: keys.map((key) => presentKey(key)) });
    },
  );
};

const addRevoke: Routes = (app, room) => {
  app.delete<{ Params: { id: string } }>(
    '/v1/keys/:id',
    {
      config: { scope: 'admin', label: 'DELETE /v1/keys/{id}' },
      schema: {
        tags: ['keys'],
        summary: 'Revoke an API key',
        security: secured,
        params: wire.idParams,
        querystring: wire.noQuery,
        response: { 204: empty('Revoked.'), ...problems(404, ...WRITE_STATUSES) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const number = /^k([1-9]\d{0,14})$/.exec(id)?.[1];
      if (number !== undefined) await checkNotLast(room.store.keys, Number(number));
      if (number === undefined || !(await room.store.keys.revoke(Number(number)))) {
        throw new SluiceError('not_found', `There is no key ${JSON.stringify(id)}.`);
      }
      await room.keysChanged();
      countAnswer('DELETE /v1/keys/{id}', 204);
      return reply.code(204).send();
    },
  );
};
