/** The main program of a Node handler process: frames on file descriptor 3, withdrawals on 4, one batch at a time. */
import { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { type Frame, FrameReader, frameHead, privateBytes } from '../frames.ts';
import { numberBytes, numberReader, WITHDRAWAL_NUMBERS } from '../withdrawal.ts';
import { type LoadedFunction, loadFunction, resolvePackagesFrom } from './loading.ts';
import { type Answer, errorText, type InitHeader, runBatch } from './running.ts';

type CallHeader = Parameters<typeof runBatch>[1] & { readonly type: 'call'; readonly id: number };
type Message =
  | (InitHeader & { readonly type: 'init' })
  | CallHeader
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'stop' };

const socket = new Socket({ fd: 3, readable: true, writable: true });
const control = new Socket({ fd: 4, readable: true, writable: true });
const withdrawn = new Set<number>();
let begun = 0;
const aborts = new Map<number, AbortController>();
let loaded: LoadedFunction | null = null;
let init: InitHeader | null = null;
let turn: Promise<void> = Promise.resolve();

const send = (header: object, body: Uint8Array | null): Promise<void> =>
  new Promise((resolve) => {
    socket.cork();
    socket.write(frameHead(header, body?.byteLength ?? 0), () => resolve());
    if (body) socket.write(body);
    socket.uncork();
  });

const start = async (header: InitHeader): Promise<void> => {
  try {
    init = header;
    loaded = await loadFunction(header.directory, header.function.handler);
    await loaded.onStartup?.();
    // `(columns) => …` asks for nothing else; a function of no or more declared parameters may look at the context.
    await send({ type: 'ready', pid: process.pid, wants_context: loaded.handler.length !== 1 }, null);
  } catch (error) {
    await send({ type: 'start_failed', error: errorText(error) }, null);
    process.exit(1);
  }
};

const run = async (header: CallHeader, body: Uint8Array): Promise<void> => {
  const abort = aborts.get(header.id);
  aborts.delete(header.id);
  // The host was told that it has not begun, and waits for no answer.
  if (!loaded || !init || !abort || withdrawn.delete(header.id)) return;
  begun = header.id;
  aborts.set(header.id, abort);
  const respond = (answer: Answer): Promise<void> => send({ ...answer.header, id: header.id }, answer.body);
  await runBatch({ init, loaded, signal: abort.signal, respond }, header, body);
  aborts.delete(header.id);
};

const stop = async (): Promise<void> => {
  await loaded?.onShutdown?.();
  process.exit(0);
};

const receive = ({ header, body }: Frame<Message>): void => {
  if (header.type === 'cancel') {
    aborts.get(header.id)?.abort();
    return;
  }
  if (header.type === 'call') aborts.set(header.id, new AbortController());
  turn = turn.then(() => {
    if (header.type === 'init') return start(header);
    return header.type === 'call' ? run(header, body) : stop();
  });
};

const withdraw = (first: number, last: number): void => {
  for (let id = Math.max(first, begun + 1); id <= last; id += 1) withdrawn.add(id);
  control.write(numberBytes(begun));
};

new Worker(new URL('./server-watch.ts', import.meta.url), { workerData: process.ppid }).unref();
resolvePackagesFrom(process.argv[2] ?? process.cwd());
const reader = new FrameReader<Message>(privateBytes, receive);
socket.on('data', (chunk: Buffer) => reader.push(chunk));
control.on(
  'data',
  numberReader(WITHDRAWAL_NUMBERS, (first, last) => withdraw(first!, last!)),
);
control.on('error', () => undefined);
socket.on('close', () => process.exit(0));
socket.on('end', () => process.exit(0));
socket.on('error', () => process.exit(0));
