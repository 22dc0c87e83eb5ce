import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collectBody } from '../../../services/ingress/collected-body.ts';
import { Slab } from '../../../shared/runtime/slab.ts';

const LIMIT = 300_000;

type Collected = { readonly error: Error | null; readonly body: Buffer | undefined };

let server: Server;
let collected: Promise<Collected>;

beforeEach(async () => {
  const { promise, resolve } = Promise.withResolvers<Collected>();
  collected = promise;
  server = createServer((incoming, response) => {
    collectBody(
      incoming,
      {
        ...{ limitBytes: LIMIT, tooLarge: () => new Error('too large') },
        ...{ isShared: true, held: null, underWay: new Slab() },
      },
      (error, body) => {
        resolve({ error, body });
        response.writeHead(200, { connection: 'close' }).end();
      },
    );
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
});

afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const portOf = (): number => (server.address() as AddressInfo).port;

/** With `chunks` of one the request names its length, else it is chunked. */
const post = (chunks: readonly Buffer[]): void => {
  const headers = chunks.length === 1 ? { 'content-length': chunks[0]!.length } : {};
  const sent = request({ port: portOf(), method: 'POST', headers });
  sent.on('error', () => undefined);
  for (const chunk of chunks) sent.write(chunk);
  sent.end();
};

describe('a body', () => {
  it.each([1, 65_535, 65_536, LIMIT])('of %i bytes comes whole', async (bytes) => {
    const given = randomBytes(bytes);
    post([given]);
    const { error, body } = await collected;
    expect(error).toBeNull();
    expect(Buffer.compare(body!, given)).toBe(0);
    expect(body!.buffer instanceof SharedArrayBuffer).toBe(bytes >= 65_536);
  });

  it('of no known length comes whole', async () => {
    const chunks = [randomBytes(100_000), randomBytes(1), randomBytes(150_000)];
    post(chunks);
    expect(Buffer.compare((await collected).body!, Buffer.concat(chunks))).toBe(0);
  });

  it.each([[[LIMIT + 1]], [[200_000, 100_001]]])('above the limit is refused: %j', async (sizes) => {
    post(sizes.map((bytes) => randomBytes(bytes)));
    const { error, body } = await collected;
    expect([error?.message, body]).toEqual(['too large', undefined]);
  });

  it('that ends in the middle is an error of the caller', async () => {
    const socket = connect(portOf(), '127.0.0.1');
    await once(socket, 'connect');
    socket.write(`POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n`);
    socket.end(randomBytes(99_999));
    const { error, body } = await collected;
    expect([(error as { statusCode?: number } | null)?.statusCode, body]).toEqual([400, undefined]);
  });
});
