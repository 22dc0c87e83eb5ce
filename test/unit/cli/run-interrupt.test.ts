/** A run that is stopped while its server is away. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ChunkCalls } from '../../../cli/run/chunk-calls.ts';
import { Sluice } from '../../../sdk/index.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ROOT, temporaryDirectory } from '../../support/sluice-process.ts';

const FUNCTION = {
  name: 'vector',
  version: 'v1',
  paused: false,
  spec: { inputs: [{ name: 'text', type: 'utf8', nullable: false }], min_replicas: 1 },
  replicas: [{ version: 'v1', ready: 1, starting: 0, failed: 0, reason: null }],
};

let server: Server;
let url: string;
/** Resolves when the server has hung up on a submission. */
let submitted: Promise<unknown>;

beforeEach(async () => {
  server = createServer((request, response) => {
    if (request.method === 'GET') {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(FUNCTION));
      return;
    }
    request.socket.destroy();
    server.emit('submission');
  });
  submitted = once(server, 'submission');
  await once(server.listen(0, '127.0.0.1'), 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => void server.close());

it('gives a submission up that nobody answers', async () => {
  const client = new Sluice({ url, retries: 1_000_000 });
  const target = client.function('vector');
  await target.show();
  const stop = new AbortController();
  const calls = new ChunkCalls(target, 'v1', false, stop.signal);
  const answer = calls.answer({ chunk: 0, fromRow: 0, key: 'k' }, rowsToStream({ text: ['a'] }));
  const ended = expect(answer).rejects.toThrow('stopped');
  await submitted;
  stop.abort(new Error('stopped'));
  await ended;
  await calls.cancelInFlight();
});

it('says that it stops, and ends as interrupted', async () => {
  const folder = temporaryDirectory();
  const input = path.join(folder, 'in.csv');
  writeFileSync(input, 'text\na\n');
  const launcher = path.join(ROOT, 'cli/bin/sluice.mjs');
  const args = ['run', '--url', url, '--function', 'vector', '--input', input];
  const run = spawn(process.execPath, [launcher, ...args, '--output', path.join(folder, 'out.arrow')]);
  const said = text(run.stderr);
  await submitted;
  run.kill('SIGINT');
  expect(await once(run, 'exit')).toEqual([130, null]);
  expect(await said).toContain(
    'Stopping: calls in flight are cancelled; a second signal ends at once.\nsluice: Interrupted before any row',
  );
  rmSync(folder, { recursive: true });
});
