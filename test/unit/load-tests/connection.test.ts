import { once } from 'node:events';
import net from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { Connection, type Reply } from '../../../load-tests/generator/connection.ts';

const servers: net.Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A server that answers each request with the given pieces, each in a segment of its own. */
const answering = async (pieces: readonly string[]): Promise<number> => {
  const server = net.createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('data', async () => {
      for (const piece of pieces) await new Promise((sent) => socket.write(piece, sent));
    });
  });
  servers.push(server.listen(0, '127.0.0.1'));
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
};

const exchange = (port: number, times: number): Promise<{ replies: string[]; lost: string | null }> =>
  new Promise((resolve) => {
    const replies: string[] = [];
    const connection = new Connection(
      { host: '127.0.0.1', port },
      {
        ready: () => connection.send(Buffer.from('x')),
        reply: (reply: Reply) => {
          replies.push(`${reply.status} ${reply.body()}`);
          if (replies.length < times) connection.send(Buffer.from('x'));
          else {
            connection.end();
            resolve({ replies, lost: null });
          }
        },
        lost: (lost) => resolve({ replies, lost }),
      },
    );
  });

test('replies in one piece, and a connection that is used again', async () => {
  const port = await answering(['HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi']);
  expect(await exchange(port, 3)).toEqual({ replies: ['200 hi', '200 hi', '200 hi'], lost: null });
});

test('a reply that comes in pieces, cut in the head and in the body', async () => {
  const port = await answering(['HTTP/1.1 202 Acc', 'epted\r\nContent-Length: 4\r', '\n\r\nab', 'cd']);
  expect(await exchange(port, 2)).toEqual({ replies: ['202 abcd', '202 abcd'], lost: null });
});

test('a reply of unknown length is told, not guessed', async () => {
  const port = await answering(['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n']);
  expect(await exchange(port, 1)).toEqual({ replies: [], lost: 'a reply without Content-Length' });
});
