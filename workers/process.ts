/**
 * One handler process: a child with frames on file descriptor 3 and withdrawals on 4 (docs/decisions/0001), a clean
 * environment, a process group of its own, and its output read as lines.
 *
 *   starting ──ready──► serving ──stop──► leaving ──► gone
 *      └──start_failed, exit, too long──────────────────┘
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { InputStream } from '../shared/arrow/index.ts';
import { sharedBytes } from '../shared/runtime/shared-bytes.ts';
import type { HandlerInstance } from './backend.ts';
import { batchBytes } from './batch-bytes.ts';
import { frameSocket } from './frame-socket.ts';
import { type Frame, FrameError, FrameReader, frameHead } from './frames.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext, HandlerOutput } from './handler.ts';
import { bytesText, watchMemory } from './memory-watch.ts';
import { OutputLines } from './output-lines.ts';
import { treeUsage } from './process-tree.ts';
import { BEGUN_NUMBERS, numberBytes, numberReader } from './withdrawal.ts';

/** Loading a large model takes minutes; a start that takes longer than this hangs. */
const START_MS_MAX = 900_000;
/** How long the frame socket may stay open after the exit: a grandchild may hold it. */
const SOCKET_LINGER_MS = 1000;
/** What the reason of a failed start quotes of the process's last output. */
const TAIL_LINES = 20;

export type ProcessCommand = {
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
};

export type ProcessOptions = {
  readonly command: ProcessCommand;
  /** The init frame without its type. */
  readonly init: object;
  readonly memoryBytesMax: number | null;
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void;
};

type WireError = {
  readonly kind?: string;
  readonly message?: string;
  readonly traceback?: string;
  readonly mro?: readonly string[];
  readonly code?: string;
};
type WireRefusals = readonly (readonly [row: number, error: WireError])[];
type Message =
  | { readonly type: 'ready'; readonly pid: number; readonly wants_context?: boolean }
  | { readonly type: 'start_failed'; readonly error: WireError }
  | { readonly type: 'result'; readonly id: number; readonly rows: number; readonly errors?: WireRefusals }
  | {
      readonly type: 'partial';
      readonly id: number;
      readonly from: number;
      readonly rows: number;
      readonly errors?: WireRefusals;
    }
  | { readonly type: 'error'; readonly id: number; readonly error: WireError };

type Pending = {
  readonly id: number;
  readonly rows: number;
  answeredRows: number;
  readonly outputs: HandlerOutput[];
  readonly begun: () => void;
  readonly answer: (answer: HandlerAnswer) => void;
};

const textOf = ({ kind, message }: WireError): string =>
  [kind, message].filter(Boolean).join(': ') || 'no message';

const rowErrorOf = (code: string, { kind, message, traceback }: WireError) => ({
  code,
  message: String(message ?? ''),
  ...(kind === undefined ? {} : { kind }),
  ...(traceback === undefined ? {} : { traceback }),
});

const failureOf = (error: WireError, outputs: readonly HandlerOutput[]): HandlerAnswer => ({
  end: 'error',
  outputs,
  error: rowErrorOf(error.code === 'handler_output_invalid' ? error.code : 'handler_error', error),
  mro: error.mro ?? [],
});

const tooLarge = (error: FrameError): HandlerAnswer => ({
  end: 'error',
  error: { code: 'handler_error', message: error.message, kind: 'FrameError' },
  mro: [],
});

export class HandlerProcess implements HandlerInstance {
  readonly ready: Promise<void>;
  readonly gone: Promise<string>;
  wantsCalls = false;

  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #control: Socket;
  /** Withdrawals without an answer, and the last batch that any has named. */
  readonly #withdrawals: { readonly first: number; readonly last: number }[] = [];
  #withdrawnTo = 0;
  readonly #pending: Pending[] = [];
  readonly #tail: string[] = [];
  readonly #started = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<string>();
  #nextId = 1;
  #isReady = false;
  #isGone = false;
  #cause: string | null = null;

  constructor(options: ProcessOptions) {
    this.ready = this.#started.promise;
    this.gone = this.#ended.promise;
    this.ready.catch(() => undefined);
    const { command, args, env, cwd } = options.command;
    this.#child = spawn(command, args, {
      cwd,
      env: { ...env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    // Without a descriptor left, Node makes no pipes and tells the error in the next turn, to whoever listens by then.
    if (this.#child.stdio?.[4] == null) {
      this.#child.once('error', () => undefined);
      throw new Error('it could not be started: this server has no file descriptors left (see ulimit -n)');
    }
    this.#socket = this.#openSocket();
    this.#control = this.#openControl();
    this.#readOutput(options.onLine);
    this.#superviseEnd(options.memoryBytesMax);
    const timer = setTimeout(
      () => this.kill(`it was not ready after ${START_MS_MAX / 1000} s`),
      START_MS_MAX,
    );
    timer.unref();
    Promise.allSettled([this.ready]).then(() => clearTimeout(timer));
    this.#send({ type: 'init', ...options.init });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get place(): string | null {
    return this.#child.pid === undefined ? null : String(this.#child.pid);
  }

  /** Of the process and all that it started. */
  async usage(): Promise<{ readonly cpuMs: number; readonly memoryBytes: number } | null> {
    const { pid } = this.#child;
    return pid === undefined || this.#isGone ? null : treeUsage(pid);
  }

  get load(): number {
    return this.#pending.length;
  }

  run(
    batch: HandlerBatch,
    context: HandlerContext,
    signal: AbortSignal,
    begun: () => void,
  ): Promise<HandlerAnswer> {
    if (this.#isGone || this.#cause !== null) return Promise.resolve({ end: 'unstarted' });
    const id = this.#nextId;
    this.#nextId += 1;
    const header = {
      type: 'call',
      id,
      batch: context.batchId,
      attempt: context.attempt,
      rows: batch.rows,
      parts: batch.parts.map((part) => part.byteLength),
      calls: context.calls.map(({ callId, rows, metadata }) => ({ call_id: callId, rows, metadata })),
      deadline_ms: context.deadlineAt,
      traceparent: context.traceparent,
    };
    let head: Buffer;
    try {
      head = frameHead(header, batchBytes(batch));
    } catch (error) {
      // It fits in no frame: the batch's failure, not the process's; isolation splits it.
      if (error instanceof FrameError) return Promise.resolve(tooLarge(error));
      throw error;
    }
    return new Promise((answer) => {
      this.#pending.push({ id, rows: batch.rows, answeredRows: 0, outputs: [], begun, answer });
      this.#write(head, batch.parts);
      signal.addEventListener('abort', () => this.#cancel(id), { once: true });
      if (this.#pending.length === 1) begun();
    });
  }

  /** Batches that the process has begun are not given back, though their turn has not come as far as we have read. */
  withdraw(): void {
    const waiting = this.#pending.slice(1).filter(({ id }) => id > this.#withdrawnTo);
    const [first, last] = [waiting[0]?.id, waiting.at(-1)?.id];
    if (first === undefined || last === undefined || this.#isGone) return;
    this.#withdrawnTo = last;
    this.#withdrawals.push({ first, last });
    this.#control.write(numberBytes(first, last));
  }

  /** Ends the process and all that it started, at once. `cause` is what its batch is told. */
  kill(cause: string): void {
    this.#cause ??= cause;
    this.#killGroup();
  }

  /** Lets the process finish what runs and leave by itself, for `graceMs` at most. Resolves when it is gone. */
  async stop(graceMs: number): Promise<void> {
    if (!this.#isGone) {
      this.#send({ type: 'stop' });
      const timer = setTimeout(() => this.kill('it was stopped'), graceMs);
      await this.gone;
      clearTimeout(timer);
    }
  }

  #cancel(id: number): void {
    if (this.#pending.some((pending) => pending.id === id)) this.#send({ type: 'cancel', id });
  }

  #send(header: object): void {
    this.#write(frameHead(header, 0), []);
  }

  #write(head: Buffer, parts: readonly InputStream[]): void {
    if (this.#isGone || this.#socket.destroyed) return;
    this.#socket.cork();
    this.#socket.write(head);
    for (const { pieces } of parts) for (const piece of pieces) this.#socket.write(piece);
    this.#socket.uncork();
  }

  #readOutput(onLine: ProcessOptions['onLine']): void {
    for (const name of ['stdout', 'stderr'] as const) {
      OutputLines.attach(this.#child[name] as Readable, (text) => {
        if (!this.#isReady) {
          this.#tail.push(text);
          if (this.#tail.length > TAIL_LINES) this.#tail.shift();
        }
        onLine(name, text);
      });
    }
  }

  #openSocket(): Socket {
    const reader = new FrameReader<Message>(sharedBytes, (frame) => this.#receive(frame));
    // Whatever a frame breaks, user code can have written it: it ends this process, never the server.
    const socket = frameSocket(this.#child.stdio[3] as Socket, reader, (error) => {
      this.kill(`it sent a wrong frame (${error instanceof Error ? error.message : String(error)})`);
      socket.destroy();
    });
    return socket;
  }

  #openControl(): Socket {
    const control = this.#child.stdio[4] as Socket;
    control.on(
      'data',
      numberReader(BEGUN_NUMBERS, (begun) => this.#givenBack(begun!)),
    );
    control.on('error', () => undefined);
    return control;
  }

  /** What it has begun is answered in frames, which may be on their way. */
  #givenBack(begun: number): void {
    const asked = this.#withdrawals.shift();
    if (!asked) {
      this.kill('it gave back what nobody asked for');
      return;
    }
    this.#giveBack((id) => id > begun && id >= asked.first && id <= asked.last);
  }

  #giveBack(isUnstarted: (id: number) => boolean): void {
    const head = this.#pending[0];
    for (const pending of this.#pending.splice(0)) {
      if (isUnstarted(pending.id)) pending.answer({ end: 'unstarted' });
      else this.#pending.push(pending);
    }
    if (this.#pending[0] !== head) this.#pending[0]?.begun();
  }

  /** A frame may be read before the word, on the other socket, that what lay before its batch was left out. */
  #headFor(batch: number): Pending | undefined {
    if (this.#pending[0]?.id !== batch) {
      const isNamed = (id: number) => this.#withdrawals.some(({ first, last }) => id >= first && id <= last);
      this.#giveBack((id) => id < batch && isNamed(id));
    }
    return this.#pending[0];
  }

  #superviseEnd(memoryBytesMax: number | null): void {
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    const unwatch =
      memoryBytesMax === null || this.#child.pid === undefined
        ? () => undefined
        : watchMemory(this.#child.pid, memoryBytesMax, (bytes) =>
            this.kill(`used ${bytesText(bytes)} of memory=${bytesText(memoryBytesMax)}`),
          );
    this.#child.once('error', (error) => {
      unwatch();
      this.#finish(`it could not be started (${error.message})`);
    });
    this.#child.once('exit', async (code, signal) => {
      unwatch();
      this.#killGroup();
      const linger = setTimeout(() => this.#socket.destroy(), SOCKET_LINGER_MS);
      await closed;
      clearTimeout(linger);
      this.#control.destroy();
      this.#finish(this.#cause ?? (signal === null ? `it left with code ${code}` : `it died of ${signal}`));
    });
  }

  #killGroup(): void {
    const pid = this.#child.pid;
    if (pid === undefined || this.#isGone) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // ESRCH: the group is empty, which is what was wanted.
    }
  }

  #finish(reason: string): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#started.reject(new Error([reason, ...this.#tail].join('\n')));
    const [running, ...waiting] = this.#pending.splice(0);
    running?.answer({
      end: 'crash',
      outputs: running.outputs,
      error: { code: 'handler_crashed', message: `the handler process ended: ${reason}` },
    });
    for (const pending of waiting) pending.answer({ end: 'unstarted' });
    this.#ended.resolve(reason);
  }

  #receive({ header, body }: Frame<Message>): void {
    if (header.type === 'ready') {
      this.wantsCalls = header.wants_context === true;
      this.#isReady = true;
      this.#tail.length = 0;
      this.#started.resolve();
      return;
    }
    if (header.type === 'start_failed') {
      const { error } = header;
      this.#started.reject(
        new Error(error.traceback ? `${textOf(error)}\n${error.traceback}` : textOf(error)),
      );
      return;
    }
    const head = this.#headFor(header.id);
    if (!head || head.id !== header.id) throw new FrameError(`an answer to ${header.id}, which does not run`);
    this.#answer(head, header, body);
  }

  #answer(
    head: Pending,
    header: Exclude<Message, { type: 'ready' | 'start_failed' }>,
    body: Uint8Array,
  ): void {
    if (header.type === 'error') {
      this.#close(head, failureOf(header.error, head.outputs));
      return;
    }
    if (header.rows > 0) this.#keepOutput(head, header, body);
    if (header.type === 'result') this.#close(head, { end: 'ok', outputs: head.outputs });
  }

  /** Past the batch's rows only the count goes on, for the message: a generator without end costs no memory. */
  #keepOutput(
    head: Pending,
    header: { readonly rows: number; readonly errors?: WireRefusals },
    body: Uint8Array,
  ): void {
    const last = head.outputs.at(-1);
    head.answeredRows += header.rows;
    if (head.answeredRows > head.rows && last) {
      head.outputs[head.outputs.length - 1] = { ...last, rows: last.rows + header.rows };
      return;
    }
    const refused = (header.errors ?? []).map(([row, error]) => ({
      row,
      error: rowErrorOf('row_error', error),
    }));
    head.outputs.push({ rows: header.rows, stream: body, refused });
  }

  #close(head: Pending, answer: HandlerAnswer): void {
    this.#pending.shift();
    head.answer(answer);
    this.#pending[0]?.begun();
  }
}
