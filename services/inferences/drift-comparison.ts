/** Has a group's window compared with its reference by the thread; starts that when it is needed, and anew when it is broken. */
import { Worker } from 'node:worker_threads';
import { type DriftFigures, INFERENCE_FLUSH_MS_MAX } from '../../shared/domain/inference.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { ArtifactsOptions } from '../../shared/store/artifacts/index.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { rangePortions } from './drift-portions.ts';
import type { ComparedGroup } from './drift-records.ts';
import type { DriftAnswer, DriftRequest } from './drift-thread.ts';

export type DriftComparisonOptions = {
  readonly documents: Documents;
  readonly artifacts: ArtifactsOptions;
  readonly log: Log;
};

/** Two sides of 256 MiB take seconds, and longer where they come from a bucket. */
const ANSWER_MS_MAX = 300_000;
/** Of the thread's objects; its columns and decoded files are buffers beside it. */
const HEAP_MIB = 512;
/** Rows are in a file by then, and the file in the index: the reference changes no more. */
const FINAL_MS = INFERENCE_FLUSH_MS_MAX + 600_000;

export class DriftComparison {
  readonly #options: DriftComparisonOptions;
  #worker: Worker | null = null;

  constructor(options: DriftComparisonOptions) {
    this.#options = options;
  }

  /** One at a time. @throws SluiceError when the store fails; the signal's reason */
  async figures({ group, settings }: ComparedGroup, now: number, signal: AbortSignal): Promise<DriftFigures> {
    const { documents, log } = this.#options;
    const range = { from: now - settings.windowMs, until: now + 1 };
    const window = { range, portions: await rangePortions(documents, group, range) };
    const key = JSON.stringify([group, settings.reference]);
    // The thread keeps what it has room for.
    let answer = await this.#ask({ key, reference: null, window }, signal);
    if (answer.is === 'forgotten') {
      const portions = await rangePortions(documents, group, settings.reference);
      const isFinal = now > settings.reference.until + FINAL_MS;
      const reference = { range: settings.reference, portions, isFinal };
      answer = await this.#ask({ key, reference, window }, signal);
    }
    if (answer.is === 'forgotten') throw new Error('the reference was given, and is not there');
    if (answer.is === 'failed') throw failure(answer);
    if (answer.unreadable > 0)
      log.warn({ group, files: answer.unreadable, first: answer.detail }, 'inference files cannot be read');
    if (answer.isSpoilt) await this.stop();
    return { at: now, ...answer.figures };
  }

  /** Ends the thread, and with it what it keeps. */
  async stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }

  async #ask(request: DriftRequest, signal: AbortSignal): Promise<DriftAnswer> {
    signal.throwIfAborted();
    const worker = this.#started();
    const ended = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
    const { promise, resolve, reject } = Promise.withResolvers<DriftAnswer>();
    const onAbort = (): void => reject(ended.reason);
    const onExit = (code: number): void => reject(new Error(`its thread ended with ${code}`));
    ended.addEventListener('abort', onAbort);
    worker.once('message', resolve).once('error', reject).once('exit', onExit);
    worker.postMessage(request);
    try {
      return await promise;
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      ended.removeEventListener('abort', onAbort);
      worker.off('message', resolve).off('error', reject).off('exit', onExit);
    }
  }

  #started(): Worker {
    if (this.#worker !== null) return this.#worker;
    const worker = new Worker(new URL('./drift-thread.ts', import.meta.url), {
      ...{ name: 'drift', workerData: this.#options.artifacts },
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    });
    const forget = (): void => {
      if (this.#worker === worker) this.#worker = null;
    };
    // Whoever waits is told by a listener of its own.
    worker.on('error', forget).on('exit', forget);
    this.#worker = worker;
    return worker;
  }
}

const failure = ({ message, isOutside }: Extract<DriftAnswer, { is: 'failed' }>): Error =>
  isOutside ? new SluiceError('store_unavailable', message) : new Error(message);
