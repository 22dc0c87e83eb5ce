/** /v1/files: upload, list, show, read, delete. A file belongs to the key that sent it. */
import { Readable } from 'node:stream';
import { Type } from 'typebox';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import * as shapes from '../../../shared/wire/openai/schemas.ts';
import { type FileRecord, Files, newId, presentFile } from '../../batches/file-records.ts';
import { ownBody } from '../described-body.ts';
import { countAnswer, identityOf, type Routes, sendJson } from '../room.ts';
import { answer, secured, WRITE_STATUSES } from '../route-schema.ts';
import { takeUpload } from './file-upload.ts';
import { failures } from './openai-answer.ts';

const FILES = '/v1/files';
const FILE = `${FILES}/:id`;
const MULTIPART = 'multipart/form-data';
/** Of one thread: each may take its limit of the temporary directory. */
const UPLOADS_MAX = 8;
const PAGE = 10_000;
const params = Type.Object({ id: Type.String() });
const noQuery = Type.Object({}, { additionalProperties: false });

type Named = { Params: { id: string } };
type Listed = {
  Querystring: { after?: string; limit?: number; order?: 'asc' | 'desc'; purpose?: string };
};

const documented = (summary: string, more: object) => ({
  ...{ tags: ['openai'], summary, security: secured, querystring: noQuery },
  ...more,
});

export const fileRoutes: Routes = (app, room) => {
  const files = new Files(room.store.documents, room.artifacts);
  addUpload(app, room, files);
  addList(app, files);
  addShow(app, files);
  addContent(app, files);
  addDelete(app, files);
};

type Adding = (app: Parameters<Routes>[0], files: Files) => void;

const addUpload = (app: Parameters<Routes>[0], room: Parameters<Routes>[1], files: Files): void => {
  const label = `POST ${FILES}`;
  let uploads = 0;
  app.route({
    ...{ method: 'POST', url: FILES, config: { scope: 'call', label, streamedBody: true } },
    validatorCompiler: ownBody(app),
    schema: documented('Upload a file of requests, one a line', {
      consumes: [MULTIPART],
      body: { content: { [MULTIPART]: { schema: shapes.fileUpload } } },
      response: { 200: answer('The file.', shapes.openaiFile), ...failures(...WRITE_STATUSES) },
    }),
    handler: async (request, reply) => {
      const now = Date.now();
      const { id: owner } = identityOf(request);
      if (!request.isMultipart())
        throw new SluiceError('unsupported_media_type', `Send the file as ${MULTIPART}.`);
      if (uploads >= UPLOADS_MAX)
        throw new SluiceError('queue_full', `${UPLOADS_MAX} files are being uploaded here already.`, {
          retry_after_seconds: 5,
        });
      uploads += 1;
      try {
        await files.checkRoom(owner);
        const { filename, piece, seconds } = await takeUpload(request, room.artifacts);
        const record: FileRecord = {
          ...{ id: newId('file', owner, now), owner, filename, purpose: 'batch', ...piece, createdAt: now },
          expiresAt: seconds === null ? null : now + seconds * 1000,
        };
        await files.put(record);
        countAnswer(label, 200);
        return sendJson(reply, 200, presentFile(record));
      } catch (error) {
        // The rest of a body that is refused in its middle is not waited for.
        if (!request.raw.readableEnded) reply.header('connection', 'close');
        throw error;
      } finally {
        uploads -= 1;
      }
    },
  });
};

const addList: Adding = (app, files) => {
  const label = `GET ${FILES}`;
  app.get<Listed>(
    FILES,
    {
      config: { scope: 'call', label },
      schema: documented('List files, newest first', {
        querystring: shapes.filesQuery,
        response: { 200: answer('Files.', shapes.fileList), ...failures() },
      }),
    },
    async (request, reply) => {
      const { after = null, limit = PAGE, order = 'desc', purpose } = request.query;
      const query = {
        ...{ after, limit, isOldestFirst: order === 'asc' },
        isWanted: (record: FileRecord) => purpose === undefined || record.purpose === purpose,
      };
      const { entries, hasMore } = await files.list(identityOf(request).id, query, Date.now());
      countAnswer(label, 200);
      return sendJson(reply, 200, pageOf(entries.map(presentFile), hasMore));
    },
  );
};

export const pageOf = (data: readonly { readonly id: string }[], hasMore: boolean) => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: hasMore,
});

const addShow: Adding = (app, files) => {
  const label = 'GET /v1/files/{id}';
  app.get<Named>(
    FILE,
    {
      config: { scope: 'call', label },
      schema: documented('Show a file', {
        params,
        response: { 200: answer('The file.', shapes.openaiFile), ...failures(404) },
      }),
    },
    async (request, reply) => {
      const record = await files.find(request.params.id, identityOf(request), Date.now());
      countAnswer(label, 200);
      return sendJson(reply, 200, presentFile(record));
    },
  );
};

const addContent: Adding = (app, files) => {
  const label = 'GET /v1/files/{id}/content';
  const bytes = { 'application/octet-stream': { schema: Type.String({ format: 'binary' }) } };
  app.get<Named>(
    `${FILE}/content`,
    {
      exposeHeadRoute: false,
      config: { scope: 'call', label },
      schema: documented('The bytes of a file', {
        params,
        response: { 200: { description: 'All of them.', content: bytes }, ...failures(404) },
      }),
    },
    async (request, reply) => {
      const record = await files.find(request.params.id, identityOf(request), Date.now());
      countAnswer(label, 200);
      return reply
        .header('content-type', 'application/octet-stream')
        .header('content-length', record.bytes)
        .header('x-content-type-options', 'nosniff')
        .send(Readable.from(files.content(record), { objectMode: false, highWaterMark: 2 ** 18 }));
    },
  );
};

const addDelete: Adding = (app, files) => {
  const label = 'DELETE /v1/files/{id}';
  app.delete<Named>(
    FILE,
    {
      config: { scope: 'call', label },
      schema: documented('Delete a file', {
        params,
        response: { 200: answer('It is gone.', shapes.deletedFile), ...failures(404, ...WRITE_STATUSES) },
      }),
    },
    async (request, reply) => {
      const record = await files.find(request.params.id, identityOf(request), Date.now());
      await files.remove(record);
      countAnswer(label, 200);
      return sendJson(reply, 200, { id: record.id, object: 'file', deleted: true });
    },
  );
};
