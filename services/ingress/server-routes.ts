/** The server itself: what it is, whether it lives, whether it takes work, its metrics and its contract. */
import { Type } from 'typebox';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { metricsContentType } from '../../shared/runtime/metrics.ts';
import * as wire from '../../shared/wire/schemas.ts';
import { countAnswer, type Routes, sendJson } from './room.ts';
import { answer, problems } from './route-schema.ts';

export const serverRoutes: Routes = (app, room) => {
  const tags = ['server'];
  const described = (summary: string, schema = wire.health) => ({
    ...{ tags, summary, querystring: wire.noQuery },
    response: { 200: answer(summary, schema), ...problems(503) },
  });
  app.get(
    '/v1/server',
    { schema: { ...described('What this server is', wire.server as never) } },
    async (_request, reply) => {
      const { queue, retention } = room.store;
      const { databaseBytes, segmentBytes, segmentFiles, limitBytes, full } = await retention.usage();
      countAnswer('GET /v1/server', 200);
      return sendJson(reply, 200, {
        version: room.version,
        store: room.settings.store === 'embedded' ? 'embedded' : 'redis',
        durability: queue.durability,
        generation: queue.generation,
        usage: {
          database_bytes: databaseBytes,
          segment_bytes: segmentBytes,
          segment_files: segmentFiles,
          limit_bytes: limitBytes,
          full,
        },
      });
    },
  );
  app.get('/livez', { schema: described('The process answers') }, (_request, reply) => {
    sendJson(reply, 200, { status: 'alive' });
  });
  app.get('/readyz', { schema: described('The server takes work') }, async (_request, reply) => {
    // A server whose data is lost leaves as well; the cause comes first.
    room.waits.checkKept();
    if (room.state.isLeaving || room.state.isDraining)
      throw new SluiceError('shutting_down', 'The server is shutting down.');
    await room.store.retention.usage();
    return sendJson(reply, 200, { status: 'ready' });
  });
  const metricsText = {
    200: { description: 'Prometheus text.', content: { 'text/plain': { schema: Type.String() } } },
    ...problems(),
  };
  app.get(
    '/metrics',
    { schema: { tags, summary: 'Metrics', querystring: wire.noQuery, response: metricsText } },
    async (_request, reply) => reply.header('content-type', metricsContentType).send(await room.exposition()),
  );
  app.get('/openapi.json', { schema: { hide: true, querystring: wire.noQuery } }, (_request, reply) => {
    sendJson(reply, 200, app.swagger());
  });
};
