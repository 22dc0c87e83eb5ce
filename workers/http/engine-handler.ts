/**
 * Batches as requests to one engine, one at a time.
 *
 *   run ─► waiting ─► asked ──2xx with rows──► end: ok
 *             │         ├── another status, a wrong body ─► error
 *             │         └── the connection breaks ─► the engine lives: error; it ended: crash
 *             └── out of service ─► unstarted: others may have it
 */
import type { Handler, HandlerAnswer, HandlerBatch, HandlerContext } from '../handler.ts';
import { BrokenConnection, WrongReply } from './engine-connection.ts';
import { errorAnswer } from './failed-reply.ts';

/** Asks the engine; throws what EngineConnection throws. */
export type Infer = (
  batch: HandlerBatch,
  context: HandlerContext,
  signal: AbortSignal,
) => Promise<HandlerAnswer>;

export type EngineHandlerOptions = {
  readonly infer: Infer;
  /** The connection broke: resolves with how the engine ended, or with null when it lives. */
  readonly onBroken: () => Promise<string | null>;
};

type Pending = {
  readonly batch: HandlerBatch;
  readonly context: HandlerContext;
  readonly signal: AbortSignal;
  readonly begun: () => void;
  readonly answer: (answer: HandlerAnswer) => void;
  isAnswered: boolean;
};

export class EngineHandler implements Handler {
  readonly wantsCalls = false;
  readonly #options: EngineHandlerOptions;
  readonly #pending: Pending[] = [];
  readonly #ended = new AbortController();
  #isClosed = false;
  #isOut = false;
  #drained: PromiseWithResolvers<void> | null = null;

  constructor(options: EngineHandlerOptions) {
    this.#options = options;
  }

  /** Batches that wait for an answer. */
  get load(): number {
    return this.#pending.length;
  }

  run(
    batch: HandlerBatch,
    context: HandlerContext,
    signal: AbortSignal,
    begun: () => void,
  ): Promise<HandlerAnswer> {
    if (this.#isClosed || this.#isOut) return Promise.resolve({ end: 'unstarted' });
    return new Promise((answer) => {
      this.#pending.push({ batch, context, signal, begun, answer, isAnswered: false });
      if (this.#pending.length === 1) void this.#ask(this.#pending[0]!);
    });
  }

  /** Takes batches again, or none for now; one that runs goes on. */
  serve(isServing: boolean): void {
    this.#isOut = !isServing;
    if (this.#isOut) this.withdraw();
  }

  withdraw(): void {
    for (const waiting of this.#pending.splice(1)) this.#tell(waiting, { end: 'unstarted' });
  }

  /** Ends all at once: the batch that runs is told `cause`, the others have not begun. */
  fail(cause: string): void {
    this.#isClosed = true;
    const [running, ...waiting] = this.#pending.splice(0);
    const message = `the engine ended: ${cause}`;
    if (running) this.#tell(running, { end: 'crash', error: { code: 'handler_crashed', message } });
    for (const pending of waiting) this.#tell(pending, { end: 'unstarted' });
    this.#ended.abort();
    this.#drained?.resolve();
  }

  /** Takes nothing more; resolves when what was taken is answered. */
  drain(): Promise<void> {
    this.#isClosed = true;
    this.#drained ??= Promise.withResolvers<void>();
    if (this.#pending.length === 0) this.#drained.resolve();
    return this.#drained.promise;
  }

  async #ask(head: Pending): Promise<void> {
    head.begun();
    const answer = await this.#answerOf(head);
    if (head.isAnswered) return;
    this.#pending.shift();
    this.#tell(head, answer);
    const next = this.#pending[0];
    if (next) void this.#ask(next);
    else this.#drained?.resolve();
  }

  async #answerOf({ batch, context, signal }: Pending): Promise<HandlerAnswer> {
    try {
      signal.throwIfAborted();
      return await this.#options.infer(batch, context, AbortSignal.any([signal, this.#ended.signal]));
    } catch (error) {
      if (signal.aborted || this.#ended.signal.aborted)
        return errorAnswer('handler_error', 'Cancelled', 'the batch is not wanted any more');
      if (error instanceof WrongReply)
        return errorAnswer('handler_output_invalid', 'WrongReply', error.message);
      if (!(error instanceof BrokenConnection)) {
        const text = error instanceof Error ? error.message : String(error);
        return errorAnswer('internal', 'InferError', `the engine could not be asked: ${text}`);
      }
      const end = await this.#options.onBroken();
      const message = `the connection to the engine broke: ${error.message}`;
      if (end === null) return errorAnswer('handler_error', 'ConnectionBroken', message);
      return { end: 'crash', error: { code: 'handler_crashed', message: `the engine ended: ${end}` } };
    }
  }

  #tell(pending: Pending, answer: HandlerAnswer): void {
    if (pending.isAnswered) return;
    pending.isAnswered = true;
    pending.answer(answer);
  }
}
