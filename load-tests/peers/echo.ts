/** The reference of the single-row scenario: a bare fastify server that parses a JSON body and sends it back. */
import Fastify from 'fastify';

const server = Fastify();
server.get('/', () => 'ready');
server.post('/echo', (request) => request.body);
await server.listen({ host: '127.0.0.1', port: Number(process.argv[2]) });
process.once('SIGTERM', () => void server.close());
