/** Chunked calls: cut, bounded in flight, joined in row order; a failure cancels what is in flight. */
import type { RowErrorJson } from '../shared/wire/api.ts';
import type { CallHandle, CallResult } from './call-handle.ts';
import { CallFailedError, ChunkFailedError, SluiceError, TimeoutError } from './errors.ts';
import { type Batch, type CountedBatch, countedBatch, nullsOf, pickRows, sliceBatch } from './input.ts';
import { OpenRows } from './open-rows.ts';
import type { CallOptions, RemoteFunction } from './remote-function.ts';

export type ChunkProgress = {
  readonly rowsDone: number;
  readonly rowsTotal: number;
  readonly chunksDone: number;
  readonly chunksTotal: number;
};

export type ChunkedCallOptions = Omit<CallOptions, 'idempotencyKey'> & {
  /** Rows of a chunk; the last may have fewer. Give this or `numChunks`. */
  readonly chunkSize?: number;
  /** Exactly this many chunks (never more than rows), sizes differing by at most one. */
  readonly numChunks?: number;
  /** Chunks in flight at most. Default 4. */
  readonly concurrentChunks?: number;
  /** For each chunk, which is cancelled after it; without it as long as it takes. */
  readonly timeoutMs?: number;
  /**
   * `throw` (default): the first failure cancels the rest. `null`: null for the rows that failed or were refused, as for a null
   * in a column that takes none, and only for them.
   */
  readonly onError?: 'throw' | 'null';
  readonly onProgress?: (progress: ChunkProgress) => void;
};

export type ChunkedResult<Output> = {
  /** One entry a row, in row order; null where the row is in `errors`. */
  readonly result: (Output | null)[];
  /** By row, from 0, in row order. */
  readonly errors: ReadonlyMap<number, RowErrorJson>;
};

export type ChunkRange = { readonly from: number; readonly to: number };

const positive = (name: string, value: number): number => {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new SluiceError('invalid_request', `${name} is ${value}; give a whole number of at least 1.`, {
    field: name,
  });
};

/** The chunks of `rows` rows. @throws SluiceError when both or none of the two options are given */
export const chunkRanges = (
  rows: number,
  { chunkSize, numChunks }: Pick<ChunkedCallOptions, 'chunkSize' | 'numChunks'>,
): ChunkRange[] => {
  if ((chunkSize === undefined) === (numChunks === undefined)) {
    const given =
      chunkSize === undefined
        ? 'Neither chunkSize nor numChunks is given'
        : 'Both chunkSize and numChunks are given';
    throw new SluiceError('invalid_request', `${given}; give exactly one of them.`, { field: 'chunkSize' });
  }
  if (numChunks !== undefined) {
    const count = Math.min(positive('numChunks', numChunks), rows);
    return Array.from({ length: count }, (_, i) => ({
      from: Math.floor((rows * i) / count),
      to: Math.floor((rows * (i + 1)) / count),
    }));
  }
  const size = positive('chunkSize', chunkSize!);
  return Array.from({ length: Math.ceil(rows / size) }, (_, i) => ({
    from: i * size,
    to: Math.min(rows, (i + 1) * size),
  }));
};

type Chunk = ChunkRange & { readonly index: number };

/** A call, the rows of the whole that it has, and those that were refused. */
type Submitted = {
  readonly handle: CallHandle;
  readonly open: readonly number[];
  readonly refused: ReadonlyMap<number, RowErrorJson>;
};

/** One run of a chunked call: what is in flight, what is done, and the first failure. */
class ChunkedRun<Output> {
  readonly #target: Pick<RemoteFunction, 'submit'>;
  readonly #batch: CountedBatch;
  readonly #options: ChunkedCallOptions;
  readonly #chunks: readonly Chunk[];
  readonly #inFlight = new Set<CallHandle>();
  readonly #stop = new AbortController();
  readonly #result: (Output | null)[];
  readonly #errors = new Map<number, RowErrorJson>();
  #next = 0;
  #chunksDone = 0;
  #rowsDone = 0;

  constructor(target: Pick<RemoteFunction, 'submit'>, batch: CountedBatch, options: ChunkedCallOptions) {
    this.#target = target;
    this.#batch = batch;
    this.#options = options;
    this.#chunks = chunkRanges(this.#batch.rows, options).map((range, index) => ({ ...range, index }));
    this.#result = new Array<Output | null>(this.#batch.rows).fill(null);
  }

  async run(): Promise<ChunkedResult<Output>> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    const width = Math.min(
      positive('concurrentChunks', this.#options.concurrentChunks ?? 4),
      this.#chunks.length,
    );
    const abort = (): void => this.#stop.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    const lanes = Array.from({ length: width }, () => this.#lane());
    try {
      await Promise.all(lanes);
    } catch (error) {
      this.#stop.abort(error);
      // A submission that is under way gives its handle first, so that nothing stays behind uncancelled.
      await Promise.allSettled(lanes);
      await Promise.allSettled([...this.#inFlight].map((handle) => handle.cancel()));
      throw signal?.aborted ? signal.reason : error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    return { result: this.#result, errors: new Map([...this.#errors].sort(([a], [b]) => a - b)) };
  }

  async #lane(): Promise<void> {
    for (;;) {
      this.#stop.signal.throwIfAborted();
      const chunk = this.#chunks[this.#next++];
      if (!chunk) return;
      try {
        await this.#chunk(chunk);
      } catch (error) {
        if (this.#stop.signal.aborted) throw error;
        throw new ChunkFailedError(chunk.index, chunk.from, chunk.to - chunk.from, error);
      }
    }
  }

  async #chunk(chunk: Chunk): Promise<void> {
    const { timeoutMs, onError } = this.#options;
    const { handle, open, refused } = await this.#submitted(chunk);
    this.#inFlight.add(handle);
    const result = await this.#settled(handle, timeoutMs, onError === 'null');
    this.#inFlight.delete(handle);
    if (result.errors.size > 0 && onError !== 'null')
      throw new CallFailedError(handle.callId, result.errors, result.values);
    for (const [row, error] of refused) this.#errors.set(row, error);
    this.#keep(chunk, open, result);
    await handle.acknowledge().catch(() => undefined);
  }

  /** The call of what the server takes of a chunk: rows that are refused stay out, where failed rows become null. */
  async #submitted(chunk: Chunk): Promise<Submitted> {
    const open = new OpenRows(chunk.from, chunk.to - chunk.from);
    let batch = sliceBatch(this.#batch, chunk.from, chunk.to);
    for (;;) {
      try {
        // The submission itself is not aborted: an accepted call whose id nobody has could not be cancelled.
        const handle = (await this.#target.submit(batch, callOptions(this.#options))) as CallHandle;
        return { handle, open: open.rows, refused: open.refused };
      } catch (error) {
        if (this.#options.onError !== 'null') throw error;
        const left = open.refuse(error, await nullsOf(batch));
        if (left === null) throw error;
        batch = await pickRows(batch, left);
      }
    }
  }

  /** The result; where failed rows become null, a chunk that is too late is cancelled and what is finished is kept. */
  async #settled(handle: CallHandle, timeoutMs: number | undefined, isLenient: boolean): Promise<CallResult> {
    try {
      return await handle.result({ timeoutMs, signal: this.#stop.signal });
    } catch (error) {
      if (!isLenient || !(error instanceof TimeoutError)) throw error;
      await handle.cancel();
      return handle.result({ signal: this.#stop.signal });
    }
  }

  #keep(chunk: Chunk, open: readonly number[], { values, errors }: CallResult): void {
    values.forEach((value, i) => {
      this.#result[open[i]!] = value as Output | null;
    });
    for (const [row, error] of errors) this.#errors.set(open[row]!, error);
    this.#chunksDone++;
    this.#rowsDone += chunk.to - chunk.from;
    this.#options.onProgress?.({
      rowsDone: this.#rowsDone,
      rowsTotal: this.#batch.rows,
      chunksDone: this.#chunksDone,
      chunksTotal: this.#chunks.length,
    });
  }
}

const callOptions = ({
  priority,
  lane,
  deadlineMs,
  metadata,
  traceparent,
}: ChunkedCallOptions): CallOptions => ({
  priority,
  lane,
  deadlineMs,
  metadata,
  traceparent,
});

const OPTIONS: Readonly<Record<keyof ChunkedCallOptions, true>> = {
  chunkSize: true,
  numChunks: true,
  concurrentChunks: true,
  timeoutMs: true,
  onError: true,
  onProgress: true,
  priority: true,
  lane: true,
  deadlineMs: true,
  metadata: true,
  traceparent: true,
  signal: true,
};

const invalid = (field: string, detail: string): SluiceError =>
  new SluiceError('invalid_request', detail, { field });

const checkOptions = (options: ChunkedCallOptions): void => {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(OPTIONS, name));
  if (unknown !== undefined)
    throw invalid(
      unknown,
      `There is no option ${unknown}; the options are ${Object.keys(OPTIONS).join(', ')}.`,
    );
  const { onError = 'throw', timeoutMs = 0 } = options;
  if (onError !== 'throw' && onError !== 'null')
    throw invalid('onError', `onError is ${JSON.stringify(onError)}; give "throw" or "null".`);
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0))
    throw invalid('timeoutMs', `timeoutMs is ${JSON.stringify(timeoutMs)}; give milliseconds of at least 0.`);
};

export const chunkedCall = async <Output>(
  target: Pick<RemoteFunction, 'submit'>,
  batch: Batch,
  options: ChunkedCallOptions = {},
): Promise<ChunkedResult<Output>> => {
  checkOptions(options);
  return new ChunkedRun<Output>(target, await countedBatch(batch), options).run();
};
