/** The writing thread as the host sees it: started with the first rows, ended when it has had nothing for a while, and replaced when it died. */
import { Worker } from 'node:worker_threads';
import type { Log } from '../../shared/runtime/log.ts';
import type { ThreadAnswer, ThreadQuestion, WrittenFile } from './file-thread.ts';
import { packedSample, type Sample, type VersionFacts } from './sample.ts';

/** WebAssembly's memory does not shrink: a thread without work gives it back. */
const IDLE_MS = 60_000;

export type FileWriterOptions = {
  readonly generation: string;
  readonly log: Log;
  /** `file` null: its rows are lost. `rows`, `bytes`: what waits no more. */
  readonly onFile: (
    facts: VersionFacts,
    rows: number,
    bytes: number,
    file: WrittenFile | null,
    reason: string | null,
  ) => void;
};

type Waiting = { readonly facts: VersionFacts; rows: number; bytes: number };

export class FileWriter {
  readonly #options: FileWriterOptions;
  #thread: Worker | null = null;
  /** Versions that the thread knows, with what it has of them. */
  readonly #waiting = new Map<number, Waiting>();
  #idle: NodeJS.Timeout | null = null;
  /** Each is answered in its turn. */
  readonly #flushes: PromiseWithResolvers<void>[] = [];

  constructor(options: FileWriterOptions) {
    this.#options = options;
  }

  /** Memory that is not shared goes to the thread: the sample's bytes are its own. */
  add(sample: Sample, facts: VersionFacts): void {
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
    const thread = this.#running();
    let waiting = this.#waiting.get(facts.versionId);
    if (waiting === undefined) {
      waiting = { facts, rows: 0, bytes: 0 };
      this.#waiting.set(facts.versionId, waiting);
      this.#post(thread, { is: 'version', facts });
    }
    const packed = packedSample(sample);
    const buffers = [...packed.streams, packed.output, packed.runs].map((bytes) => bytes?.buffer);
    const own = new Set(buffers.filter((buffer) => buffer instanceof ArrayBuffer));
    this.#post(thread, { is: 'rows', sample: packed }, [...own]);
    waiting.rows += sample.rows;
    waiting.bytes += sample.bytes;
  }

  /** What is gathered of the version becomes files now. */
  flushVersion(versionId: number): void {
    if (this.#thread !== null && this.#waiting.has(versionId))
      this.#post(this.#thread, { is: 'flush', versionId });
  }

  /** Everything becomes files; resolves when the last one was handed over, or when the thread died. */
  async flush(): Promise<void> {
    if (this.#thread === null) return;
    const flush = Promise.withResolvers<void>();
    this.#flushes.push(flush);
    this.#post(this.#thread, { is: 'flush', versionId: null });
    await flush.promise;
  }

  /** What was not handed over is lost. */
  async stop(): Promise<void> {
    const thread = this.#thread;
    this.#ended('the worker stops');
    await thread?.terminate();
  }

  #post(thread: Worker, question: ThreadQuestion, transfer: readonly ArrayBuffer[] = []): void {
    thread.postMessage(question, transfer);
  }

  #running(): Worker {
    if (this.#thread !== null) return this.#thread;
    const { generation, log } = this.#options;
    const thread = new Worker(new URL('./file-thread.ts', import.meta.url), { workerData: { generation } });
    // Rows that are gathered keep no process alive: a stop flushes them.
    thread.unref();
    thread.on('message', (answer: ThreadAnswer) => {
      if (this.#thread === thread) this.#take(answer);
    });
    thread.on('error', (error) => {
      log.error({ err: error }, 'the thread of the inference store died; its rows are lost');
      if (this.#thread === thread) this.#ended('the thread that writes them died');
    });
    thread.on('exit', () => {
      if (this.#thread === thread) this.#ended('the thread that writes them ended');
    });
    this.#thread = thread;
    return thread;
  }

  #take(answer: ThreadAnswer): void {
    if (answer.is === 'flushed') {
      this.#flushes.shift()?.resolve();
      return;
    }
    const { versionId, rows, bytes, file, reason } = answer;
    const waiting = this.#waiting.get(versionId);
    if (waiting === undefined) return;
    waiting.rows -= rows;
    waiting.bytes -= bytes;
    this.#options.onFile(waiting.facts, rows, bytes, file, reason);
    if ([...this.#waiting.values()].some((one) => one.rows > 0)) return;
    this.#idle ??= setTimeout(() => void this.stop(), IDLE_MS).unref();
  }

  #ended(reason: string): void {
    this.#thread = null;
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
    const lost = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { facts, rows, bytes } of lost)
      if (rows > 0) this.#options.onFile(facts, rows, bytes, null, reason);
    for (const flush of this.#flushes.splice(0)) flush.resolve();
  }
}
