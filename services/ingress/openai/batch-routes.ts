/** /v1/batches: create, list, show, cancel. What runs them is services/batches. */
import { Type } from 'typebox';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import * as shapes from '../../../shared/wire/openai/schemas.ts';
import type { Endpoint } from '../../../shared/wire/openai/task-request.ts';
import { Batches, presentBatch } from '../../batches/batch-records.ts';
import { Files } from '../../batches/file-records.ts';
import { countAnswer, identityOf, type Routes, sendJson } from '../room.ts';
import { answer, secured, WRITE_STATUSES } from '../route-schema.ts';
import { pageOf } from './file-routes.ts';
import { failures } from './openai-answer.ts';

const BATCHES = '/v1/batches';
const BATCH = `${BATCHES}/:id`;
const PAGE = 20;
const BODY_BYTES_MAX = 64 * 1024;
const params = Type.Object({ id: Type.String() });
const noQuery = Type.Object({}, { additionalProperties: false });

type Named = { Params: { id: string } };
type Order = {
  readonly input_file_id: string;
  readonly endpoint: Endpoint;
  readonly completion_window: string;
  readonly metadata?: Readonly<Record<string, string>> | null;
  readonly output_expires_after?: { readonly seconds: number } | null;
};

const documented = (summary: string, more: object) => ({
  ...{ tags: ['openai'], summary, security: secured, querystring: noQuery },
  ...more,
});

export const batchRoutes: Routes = (app, room) => {
  addCreate(app, room);
  addList(app, room);
  addShow(app, room);
  addCancel(app, room);
};

const addCreate: Routes = (app, { store, artifacts, state }) => {
  const label = `POST ${BATCHES}`;
  const [files, batches] = [new Files(store.documents, artifacts), new Batches(store.documents)];
  app.post<{ Body: Order }>(
    BATCHES,
    {
      ...{ bodyLimit: BODY_BYTES_MAX, config: { scope: 'call', label } },
      schema: documented('Run the requests of a file', {
        body: shapes.batchRequest,
        response: { 200: answer('The batch.', shapes.batch), ...failures(404, ...WRITE_STATUSES) },
      }),
    },
    async (request, reply) => {
      if (state.isDraining) throw new SluiceError('shutting_down', 'The server is shutting down.');
      const identity = identityOf(request);
      const { input_file_id: fileId, endpoint, completion_window: completionWindow, ...more } = request.body;
      const now = Date.now();
      const file = await files.find(fileId, identity, now).catch((error: unknown) => {
        if (error instanceof SluiceError && error.code === 'not_found')
          throw new SluiceError('not_found', error.message, { field: 'input_file_id' });
        throw error;
      });
      const order = {
        ...{ file, endpoint, completionWindow, lane: identity.lane, metadata: more.metadata ?? null },
        outputSeconds: more.output_expires_after?.seconds ?? null,
      };
      const batch = await batches.create(order, identity.id, now);
      countAnswer(label, 200);
      return sendJson(reply, 200, presentBatch(batch));
    },
  );
};

const addList: Routes = (app, { store }) => {
  const label = `GET ${BATCHES}`;
  const batches = new Batches(store.documents);
  app.get<{ Querystring: { after?: string; limit?: number } }>(
    BATCHES,
    {
      config: { scope: 'call', label },
      schema: documented('List batches, newest first', {
        querystring: shapes.batchesQuery,
        response: { 200: answer('Batches.', shapes.batchList), ...failures() },
      }),
    },
    async (request, reply) => {
      const { after = null, limit = PAGE } = request.query;
      const { entries, hasMore } = await batches.list(identityOf(request).id, after, limit);
      countAnswer(label, 200);
      return sendJson(reply, 200, pageOf(entries.map(presentBatch), hasMore));
    },
  );
};

const addShow: Routes = (app, { store }) => {
  const label = 'GET /v1/batches/{id}';
  const batches = new Batches(store.documents);
  app.get<Named>(
    BATCH,
    {
      config: { scope: 'call', label },
      schema: documented('Show a batch', {
        params,
        response: { 200: answer('The batch.', shapes.batch), ...failures(404) },
      }),
    },
    async (request, reply) => {
      const batch = await batches.find(request.params.id, identityOf(request));
      countAnswer(label, 200);
      return sendJson(reply, 200, presentBatch(batch));
    },
  );
};

const addCancel: Routes = (app, { store }) => {
  const label = 'POST /v1/batches/{id}/cancel';
  const batches = new Batches(store.documents);
  app.post<Named>(
    `${BATCH}/cancel`,
    {
      ...{ bodyLimit: BODY_BYTES_MAX, config: { scope: 'call', label } },
      schema: documented('Cancel a batch', {
        params,
        response: { 200: answer('The batch.', shapes.batch), ...failures(404, 409, ...WRITE_STATUSES) },
      }),
    },
    async (request, reply) => {
      const batch = await batches.cancel(request.params.id, identityOf(request), Date.now());
      countAnswer(label, 200);
      return sendJson(reply, 200, presentBatch(batch));
    },
  );
};
