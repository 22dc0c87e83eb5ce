/**
 * Batches as CallFunction requests to one handler server, one at a time: the next request is made ready while one runs, and
 * leaves when that one has been answered.
 *
 *   run ─► waiting ─► called ──messages──► end: ok
 *                        ├── status with an exception ─► error
 *                        ├── UNAVAILABLE, broken connection ─► crash (and the replica behind is looked at)
 *                        └── a wrong message ─► error, the call is cancelled
 */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { CastError, rowsToStream } from '../../shared/arrow/index.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { batchStream } from '../batch-bytes.ts';
import { contextHeaders } from '../context-headers.ts';
import type { Handler, HandlerAnswer, HandlerBatch, HandlerContext, HandlerOutput } from '../handler.ts';
import { outputOfMessage } from './answer-columns.ts';
import { failureOf, isCrash, remoteException } from './call-failure.ts';
import { type CallStream, type Channel, MESSAGE_BYTES_MAX } from './channel.ts';

/** Messages without rows that an answer may hold beside one for each row: more is a generator gone wild. */
const EMPTY_MESSAGES_MAX = 1000;
/** What a request holds beside its rows: the function's name and a few bytes of framing. */
const FRAMING_BYTES = 1024;

type Pending = {
  readonly request: Uint8Array;
  readonly batch: HandlerBatch;
  readonly context: HandlerContext;
  readonly signal: AbortSignal;
  readonly begun: () => void;
  readonly answer: (answer: HandlerAnswer) => void;
  readonly outputs: HandlerOutput[];
  answeredRows: number;
  emptyMessages: number;
  call: CallStream | null;
  isAnswered: boolean;
};

export type RemoteHandlerOptions = {
  readonly channel: Channel;
  readonly spec: FunctionSpec;
  /** A call ended with its server; answers what became of that server, in words for the batch's error. */
  readonly onBroken: (details: string) => Promise<string>;
};

const errorAnswer = (code: string, kind: string, message: string): HandlerAnswer => ({
  end: 'error',
  error: { code, kind, message },
  mro: [],
});

/** The columns of functions without inputs: a batch of no columns would have no rows either. */
const NO_ARGUMENTS = '__chalk_no_args__';

/** The batch as the one stream of one record batch that handler servers take. */
const requestOf = (batch: HandlerBatch, { inputs }: FunctionSpec): Uint8Array =>
  inputs?.length === 0
    ? rowsToStream({ [NO_ARGUMENTS]: new Array<boolean>(batch.rows).fill(true) })
    : batchStream(batch, inputs);

export class RemoteHandler implements Handler {
  readonly wantsCalls = false;
  readonly #options: RemoteHandlerOptions;
  readonly #pending: Pending[] = [];
  #end: string | null = null;
  #drained: PromiseWithResolvers<void> | null = null;

  constructor(options: RemoteHandlerOptions) {
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
    if (this.#end !== null) return Promise.resolve({ end: 'unstarted' });
    let request: Uint8Array;
    try {
      request = requestOf(batch, this.#options.spec);
    } catch (error) {
      if (!(error instanceof CastError)) throw error;
      return Promise.resolve(errorAnswer('internal', 'CastError', error.message));
    }
    if (request.byteLength > MESSAGE_BYTES_MAX - FRAMING_BYTES) {
      const message = `the batch has ${request.byteLength} bytes; a message to a handler's server holds ${MESSAGE_BYTES_MAX}. Set a smaller max_batch_bytes`;
      return Promise.resolve(errorAnswer('handler_error', 'MessageTooLarge', message));
    }
    return new Promise((answer) => {
      const counts = { answeredRows: 0, emptyMessages: 0, call: null, isAnswered: false };
      this.#pending.push({ request, batch, context, signal, begun, answer, outputs: [], ...counts });
      if (this.#pending.length === 1) this.#call(this.#pending[0]!);
    });
  }

  withdraw(): void {
    for (const waiting of this.#pending.splice(1)) this.#tell(waiting, { end: 'unstarted' });
  }

  /** Ends all at once: the batch that runs is told `cause`, the others have not begun. */
  fail(cause: string): void {
    this.#end ??= cause;
    const [running, ...waiting] = this.#pending.splice(0);
    if (running) {
      const message = `the handler's server ended: ${cause}`;
      this.#tell(running, {
        end: 'crash',
        error: { code: 'handler_crashed', message },
        outputs: running.outputs,
      });
    }
    for (const pending of waiting) this.#tell(pending, { end: 'unstarted' });
    this.#drained?.resolve();
  }

  /** Takes nothing more; resolves when what was taken is answered. */
  drain(): Promise<void> {
    this.#end ??= 'it was stopped';
    this.#drained ??= Promise.withResolvers<void>();
    if (this.#pending.length === 0) this.#drained.resolve();
    return this.#drained.promise;
  }

  #call(head: Pending): void {
    head.begun();
    if (head.signal.aborted) {
      this.#close(
        head,
        errorAnswer('handler_error', 'Cancelled', 'the batch was cancelled before it started'),
      );
      return;
    }
    const { channel, spec } = this.#options;
    const call = channel.call(metadataOf(head.context));
    head.call = call;
    head.signal.addEventListener('abort', () => call.cancel(), { once: true });
    call.on('data', ({ feather_stream }: { readonly feather_stream?: Uint8Array }) =>
      this.#take(head, feather_stream ?? new Uint8Array(0)),
    );
    call.on('error', (error: ServiceError) => void this.#failed(head, error));
    // The end of the data and the status come in any order; data ends before an error as well.
    const ended = Promise.all([
      new Promise<void>((resolve) => call.once('end', resolve)),
      new Promise<number>((resolve) => call.once('status', ({ code }) => resolve(code))),
    ]);
    void ended.then(([, code]) => {
      if (code === status.OK) this.#close(head, { end: 'ok', outputs: head.outputs });
    });
    call.write({ name: spec.name, feather_stream: head.request });
    call.end();
  }

  /** One message of the answer. Past the batch's rows nothing more is wanted: a generator without end costs no memory. */
  #take(head: Pending, bytes: Uint8Array): void {
    if (head.isAnswered) return;
    try {
      const output = outputOfMessage(bytes, this.#options.spec.output);
      if (output === null) head.emptyMessages += 1;
      else {
        head.outputs.push(output);
        head.answeredRows += output.rows;
      }
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      this.#close(head, { end: 'error', error: { code: error.code, message: error.message }, mro: [] });
      return;
    }
    const isEndless = head.emptyMessages > EMPTY_MESSAGES_MAX;
    if (head.answeredRows > head.batch.rows || isEndless)
      this.#close(head, { end: 'ok', outputs: head.outputs });
  }

  async #failed(head: Pending, error: ServiceError): Promise<void> {
    if (head.isAnswered) return;
    if (!isCrash(error) || remoteException(error.details) !== null) {
      this.#close(head, failureOf(error, head.outputs));
      return;
    }
    this.#end ??= error.details;
    this.fail(await this.#options.onBroken(error.details));
  }

  #tell(pending: Pending, answer: HandlerAnswer): void {
    if (pending.isAnswered) return;
    pending.isAnswered = true;
    pending.answer(answer);
    pending.call?.cancel();
  }

  /** Answers the head and begins the next. */
  #close(head: Pending, answer: HandlerAnswer): void {
    if (head.isAnswered) return;
    this.#pending.shift();
    this.#tell(head, answer);
    const next = this.#pending[0];
    if (next) this.#call(next);
    else this.#drained?.resolve();
  }
}

/** What handlers find in their context's metadata. */
const metadataOf = (context: HandlerContext): Metadata => {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(contextHeaders(context))) metadata.set(name, value);
  return metadata;
};
