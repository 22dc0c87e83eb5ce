/**
 * The floor of the single-row scenario: the least that answers rows in durable batches through a Python handler. One fastify
 * server cuts a batch of 64 rows, or of 5 ms, writes what the handler answered to a log, and answers when that is synced; batches
 * that end during one sync share the next. Nothing else that a queue promises is here: no schema, no ids, no leases, no
 * retries, no limits, and a row is lost with its process. What it takes is what the machine asks of any server in its place.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fdatasync, openSync, rmSync, writeSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { PYTHON } from './peer.ts';

const BATCH_ROWS = 64;
const BUFFER_MS = 5;

type Row = { readonly text: string; readonly reply: FastifyReply };
type Batch = { readonly rows: readonly Row[]; readonly lengths: readonly number[] };

const [port, directory] = process.argv.slice(2) as [string, string];
const socketPath = path.join(directory, `floor-${port}.sock`);
const logPath = path.join(directory, `floor-${port}.log`);
const log = openSync(logPath, 'w');

const handlerServer = net.createServer().listen(socketPath);
const loop = new URL('rows_loop.py', import.meta.url).pathname;
const child = spawn(PYTHON, [loop, socketPath], { stdio: 'inherit' });
const [handler] = (await once(handlerServer, 'connection')) as [net.Socket];

let waiting: Row[] = [];
let timer: NodeJS.Timeout | undefined;
const running: Row[][] = [];
let ended: Batch[] = [];
let isSyncing = false;

const cutBatch = (): void => {
  clearTimeout(timer);
  timer = undefined;
  running.push(waiting);
  handler.write(`${JSON.stringify(waiting.map(({ text }) => text))}\n`);
  waiting = [];
};

const commit = (): void => {
  isSyncing = ended.length > 0;
  if (!isSyncing) return;
  const group = ended;
  ended = [];
  writeSync(
    log,
    `${JSON.stringify(group.map(({ rows, lengths }) => [rows.map(({ text }) => text), lengths]))}\n`,
  );
  fdatasync(log, (error) => {
    if (error) throw error;
    for (const { rows, lengths } of group)
      for (const [index, { reply }] of rows.entries()) reply.send({ result: [lengths[index]] });
    commit();
  });
};

readline.createInterface({ input: handler }).on('line', (line) => {
  ended.push({ rows: running.shift()!, lengths: JSON.parse(line) as number[] });
  if (!isSyncing) commit();
});

type Body = { readonly columns: { readonly text: readonly [string] } };

const server = Fastify();
server.get('/', () => 'ready');
server.post('/rows', (request: FastifyRequest<{ Body: Body }>, reply) => {
  waiting.push({ text: request.body.columns.text[0], reply });
  if (waiting.length === BATCH_ROWS) cutBatch();
  else timer ??= setTimeout(cutBatch, BUFFER_MS);
  return reply;
});
await server.listen({ host: '127.0.0.1', port: Number(port) });
process.once('SIGTERM', () => {
  child.kill();
  rmSync(logPath);
  rmSync(socketPath, { force: true });
  process.exit(0);
});
