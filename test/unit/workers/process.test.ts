/** One handler process: order, prefetch, ends, and children that break the protocol. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InputStream } from '../../../shared/arrow/index.ts';
import type { HandlerContext } from '../../../workers/handler.ts';
import { HandlerProcess, type ProcessCommand } from '../../../workers/process.ts';
import { untilDead } from '../../support/sluice-process.ts';

const FRAMES = fileURLToPath(new URL('../../../workers/frames.ts', import.meta.url));
const WITHDRAWAL = fileURLToPath(new URL('../../../workers/withdrawal.ts', import.meta.url));
const PROCESS = fileURLToPath(new URL('../../../workers/process.ts', import.meta.url));
const NODE_RUNTIME = fileURLToPath(new URL('../../../workers/js/child.ts', import.meta.url));

/** A child of few lines: `frames` is an async iterable of what the host sends, `send(header, body)` answers. */
const PRELUDE = `
import { Socket } from 'node:net';
import { FrameReader, frameHead, privateBytes } from ${JSON.stringify(FRAMES)};
const socket = new Socket({ fd: 3 });
socket.on('end', () => process.exit(0));
const send = (header, body = new Uint8Array(0)) => { socket.write(frameHead(header, body.length)); socket.write(body); };
const waiting = []; let wake = () => {};
const reader = new FrameReader(privateBytes, (frame) => { waiting.push(frame); wake(); });
socket.on('data', (chunk) => reader.push(chunk));
const frames = { async *[Symbol.asyncIterator]() { for (;;) { while (waiting.length === 0) await new Promise((go) => { wake = go; }); yield waiting.shift(); } } };
const ready = () => send({ type: 'ready', pid: process.pid });
`;

const start = async (body: string, changes: Partial<ProcessCommand> = {}): Promise<HandlerProcess> => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sluice-process-'));
  const file = path.join(directory, 'child.mjs');
  await writeFile(file, PRELUDE + body);
  const process_ = new HandlerProcess({
    command: { command: process.execPath, args: [file], env: {}, cwd: directory, ...changes },
    init: { function: {}, version: 'v', directory, replica: 0 },
    memoryBytesMax: null,
    onLine: () => undefined,
  });
  onTestFinished(async () => {
    process_.kill('the test is over');
    await process_.gone;
    await rm(directory, { recursive: true });
  });
  return process_;
};

const context: HandlerContext = {
  functionName: 'f',
  version: 'v',
  batchId: 1,
  attempt: 1,
  calls: [],
  deadlineAt: null,
  traceparent: null,
};
const run = (
  handler: HandlerProcess,
  begun: () => void = () => undefined,
  signal = new AbortController().signal,
) => handler.run({ rows: 1, parts: [new InputStream([new Uint8Array([7])])] }, context, signal, begun);

const ECHO = `ready(); for await (const { header, body } of frames) {
  if (header.type === 'call') send({ type: 'result', id: header.id, rows: 1, errors: [] }, body);
  if (header.type === 'stop') process.exit(0);
}`;

describe('a handler process', () => {
  it('gets its next batch ahead, and begins it when the last is answered', async () => {
    const handler = await start(`ready(); const ids = [];
      for await (const { header, body } of frames) {
        if (header.type !== 'call') continue;
        ids.push(header.id);
        // Nothing is answered before both are here: the second came ahead.
        if (ids.length === 2) for (const id of ids) send({ type: 'result', id, rows: 1 }, body);
      }`);
    await handler.ready;
    const order: string[] = [];
    const first = run(handler, () => order.push('begin 1')).then(() => order.push('end 1'));
    const second = run(handler, () => order.push('begin 2')).then(() => order.push('end 2'));
    expect([order, handler.load]).toEqual([['begin 1'], 2]);
    await Promise.all([first, second]);
    expect(order.indexOf('begin 2')).toBeGreaterThan(0);
    expect(order.filter((step) => step.startsWith('end'))).toEqual(['end 1', 'end 2']);
  });

  it('blames its death on the batch that ran, not on the one that waited', async () => {
    const handler = await start(
      `ready(); for await (const { header } of frames) if (header.id === 2) process.exit(9);`,
    );
    await handler.ready;
    const answers = await Promise.all([run(handler), run(handler)]);
    expect(answers).toMatchObject([
      { end: 'crash', error: { code: 'handler_crashed' } },
      { end: 'unstarted' },
    ]);
    expect(await handler.gone).toBe('it left with code 9');
    expect(await run(handler)).toEqual({ end: 'unstarted' });
  });

  it('counts an answer that it sent before it died', async () => {
    const handler = await start(`ready(); for await (const { header, body } of frames)
      if (header.type === 'call') { socket.write(frameHead({ type: 'result', id: header.id, rows: 1 }, 1)); socket.write(body, () => process.exit(9)); }`);
    await handler.ready;
    expect(await run(handler)).toMatchObject({ end: 'ok', outputs: [{ rows: 1 }] });
  });

  it('leaves by itself when it is asked to stop', async () => {
    const handler = await start(ECHO);
    await handler.ready;
    await handler.stop(60_000);
    await handler.stop(60_000);
    expect(await handler.gone).toBe('it left with code 0');
  });

  it('is stopped when it does not leave within the grace', async () => {
    const handler = await start('ready(); for await (const frame of frames);');
    await handler.ready;
    await handler.stop(10);
    expect(await handler.gone).toBe('it was stopped');
  });

  it('takes down what it started', async () => {
    const handler = await start(
      `import { spawn } from 'node:child_process';
       const grandchild = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
       send({ type: 'ready', pid: grandchild.pid });
       for await (const { header } of frames) if (header.type === 'call') send({ type: 'error', id: header.id, error: { kind: 'Pid', message: String(grandchild.pid), mro: [] } });`,
    );
    await handler.ready;
    const answer = await run(handler);
    const pid = Number(answer.end === 'error' && answer.error.message);
    expect(process.kill(pid, 0)).toBe(true);
    handler.kill('the test says so');
    await handler.gone;
    await untilDead(pid);
  });

  it.each([
    ['waits', 'setInterval(() => {}, 1000);'],
    ['is in an endless loop', 'setTimeout(() => { for (;;); }, 20);'],
  ])('leaves when its server is killed while it %s', async (_, statement) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-process-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const server = path.join(directory, 'server.ts');
    await writeFile(
      server,
      `import { HandlerProcess } from ${JSON.stringify(PROCESS)};
       const command = { command: process.execPath, args: [${JSON.stringify(NODE_RUNTIME)}, '.'], env: {}, cwd: '.' };
       const init = { function: { handler: { file: 'f.mjs', attribute: 'run' } }, version: 'v', directory: ${JSON.stringify(directory)}, replica: 0 };
       const handler = new HandlerProcess({ command, init, memoryBytesMax: null, onLine: () => {} });
       await handler.ready;
       console.log(handler.pid);
       setInterval(() => {}, 1000);`,
    );
    await writeFile(path.join(directory, 'f.mjs'), `export const run = () => 1; ${statement}`);
    const child = spawn(process.execPath, [server], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(child.stdout, 'data');
    const pid = Number(String(line));
    expect(process.kill(pid, 0)).toBe(true);
    child.kill('SIGKILL');
    await untilDead(pid);
  });

  it('answers a batch that fits in no frame as failed, and goes on', async () => {
    const handler = await start(ECHO);
    await handler.ready;
    const calls = Array.from({ length: 70 }, (_, at) => ({
      callId: `c${at}`,
      rows: 1,
      metadata: { text: 'x'.repeat(2 ** 20) },
    }));
    const batch = { rows: 1, parts: [new InputStream([new Uint8Array([7])])] };
    const signal = new AbortController().signal;
    const answer = await handler.run(batch, { ...context, calls }, signal, () => undefined);
    expect(answer).toMatchObject({ end: 'error', error: { kind: 'FrameError' } });
    expect(await run(handler)).toMatchObject({ end: 'ok' });
  });

  it('is told of a cancelled batch', async () => {
    const handler = await start(`ready(); let id; for await (const { header } of frames) {
      if (header.type === 'call') id = header.id;
      if (header.type === 'cancel') send({ type: 'error', id, error: { kind: 'Cancelled', message: String(header.id === id), mro: [] } });
    }`);
    await handler.ready;
    const abort = new AbortController();
    const answer = run(handler, undefined, abort.signal);
    abort.abort();
    expect(await answer).toMatchObject({ end: 'error', error: { kind: 'Cancelled', message: 'true' } });
  });
});

describe('batches that are withdrawn', () => {
  /** Answers what it had begun when it was asked, and what came later; `begun` is the last of the former. */
  const answering = (begun: number): Promise<HandlerProcess> =>
    start(`import { numberBytes, numberReader } from ${JSON.stringify(WITHDRAWAL)};
      ready();
      const control = new Socket({ fd: 4 });
      const calls = []; let asked = null;
      const answer = ({ header, body }) => { if (header.id <= ${begun} || header.id > asked) send({ type: 'result', id: header.id, rows: 1 }, body); };
      control.on('data', numberReader(2, (first, last) => {
        asked = last; control.write(numberBytes(${begun}), () => calls.splice(0).forEach(answer));
      }));
      for await (const frame of frames) if (frame.header.type === 'call') { if (asked === null) calls.push(frame); else answer(frame); }`);

  it.each([
    ['what the process has not begun', 1, ['ok', 'unstarted', 'unstarted']],
    ['not what it has begun before we knew', 2, ['ok', 'ok', 'unstarted']],
    ['nothing when it has begun all', 3, ['ok', 'ok', 'ok']],
  ])('come back: %s', async (_, begun, ends) => {
    const handler = await answering(begun);
    await handler.ready;
    const answered = [1, 2, 3].map(() => run(handler));
    handler.withdraw();
    handler.withdraw();
    const answers = await Promise.all(answered);
    expect(answers.map(({ end }) => end)).toEqual(ends);
    expect(await run(handler)).toMatchObject({ end: 'ok' });
    expect(handler.load).toBe(0);
  });

  it('come back with the answer to a later one, when that is read before the word of it', async () => {
    const handler = await start(`import { numberBytes } from ${JSON.stringify(WITHDRAWAL)};
      ready();
      const control = new Socket({ fd: 4 });
      const held = [];
      const answer = ({ header, body }) => send({ type: 'result', id: header.id, rows: 1 }, body);
      control.once('data', () => answer(held[0]));
      for await (const frame of frames) {
        const { type, id } = frame.header;
        if (type === 'call' && id < 4) held.push(frame);
        if (id === 4) answer(frame);
        if (id === 5) control.write(numberBytes(1), () => answer(frame));
      }`);
    await handler.ready;
    const begun: number[] = [];
    const [first, ...waiting] = [1, 2, 3].map((id) => run(handler, () => begun.push(id)));
    handler.withdraw();
    expect(await first).toMatchObject({ end: 'ok' });
    expect(await run(handler, () => begun.push(4))).toMatchObject({ end: 'ok' });
    expect(await Promise.all(waiting)).toEqual([{ end: 'unstarted' }, { end: 'unstarted' }]);
    expect(await run(handler)).toMatchObject({ end: 'ok' });
    expect([begun, handler.load]).toEqual([[1, 2, 4], 0]);
  });

  it('end a process that gives back what nobody asked for', async () => {
    const handler = await start(`import { numberBytes } from ${JSON.stringify(WITHDRAWAL)};
      ready(); new Socket({ fd: 4 }).write(numberBytes(1));`);
    expect(await handler.gone).toMatch(/nobody asked for/);
  });
});

describe('a handler process that breaks the protocol', () => {
  it.each([
    [
      'refusals that are no list',
      "send({ type: 'result', id: 1, rows: 1, errors: 5 }, Buffer.alloc(8))",
      /wrong frame \(.*not a function/,
    ],
    ['lengths out of range', 'socket.write(Buffer.alloc(64, 255))', /wrong frame \(frame lengths/],
    [
      'an answer to nothing',
      "send({ type: 'result', id: 77, rows: 1 })",
      /an answer to 77, which does not run/,
    ],
    ['a header that is no JSON', 'socket.write(Buffer.from([6, 0, 0, 0, 2, 0, 0, 0, 123, 123]))', /not JSON/],
  ])('is stopped: %s', async (_, statement, reason) => {
    const handler = await start(
      `ready(); for await (const { header } of frames) if (header.type === 'call') ${statement};`,
    );
    await handler.ready;
    expect(await run(handler)).toMatchObject({ end: 'crash' });
    expect(await handler.gone).toMatch(reason);
  });

  it('cannot start, and harms nobody, when the server has no descriptors left', () => {
    const script = `import { openSync } from 'node:fs';
      import { HandlerProcess } from ${JSON.stringify(PROCESS)};
      try { for (;;) openSync('/dev/null'); } catch {}
      const command = { command: '/bin/true', args: [], env: {}, cwd: '/' };
      try { new HandlerProcess({ command, init: {}, memoryBytesMax: null, onLine() {} }); }
      catch (error) { setTimeout(() => process.stdout.write(error.message), 10); }`;
    const limited = `ulimit -n 64; exec "$0" --input-type=module -e "$1"`;
    const { stdout } = spawnSync('sh', ['-c', limited, process.execPath, script], { encoding: 'utf8' });
    expect(stdout).toContain('no file descriptors left');
  });

  it('never becomes ready when its program is missing', async () => {
    const handler = await start('', { command: '/no/such/program' });
    await expect(handler.ready).rejects.toThrow(/could not be started/);
    expect(await handler.gone).toMatch(/ENOENT/);
  });
});
