/** Chunked calls: cut, bounded in flight, joined in row order; a failure cancels what is in flight. */
import type { RowErrorJson } from '../shared/wire/api.ts';
import type { CallHandle, CallResult } from './call-handle.ts';
import { ANSWER_MS, Deadline } from './deadline.ts';
import { CallFailedError, ChunkFailedError, SluiceError, TimeoutError } from './errors.ts';
import { type Batch, type CountedBatch, countedBatch, nullsOf, pickRows, sliceBatch } from './input.ts';
import { OpenRows } from './open-rows.ts';
import type { CallOptions, RemoteFunction } from './remote-function.ts';
import { unlessAborted } from './transport.ts';

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
  /** For each chunk, from its submission to its result; it is cancelled after it. Without it as long as it takes. */
  readonly timeoutMs?: number;
  /**
   * `throw` (default): the first failure cancels the rest. `null`: null for the rows that failed or were refused, as a null in a
   * column that takes none or a row that is too large, and only for them.
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

/** So long are calls cancelled that nobody waits for any more: longer than a busy server takes to answer. */
const CLOSING_MS = 10_000;

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
      await unlessAborted(Promise.all(lanes), this.#stop.signal);
    } catch (error) {
      this.#stop.abort(error);
      const ends = Promise.allSettled([...lanes, ...[...this.#inFlight].map(giveUp)]);
      // Who aborts does not wait; for others what was in flight is cancelled by now, as far as the server answers.
      if (!signal?.aborted) await unlessAborted(ends, AbortSignal.timeout(ANSWER_MS)).catch(() => undefined);
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

  async #chunk({ from, to }: Chunk): Promise<void> {
    const { timeoutMs } = this.#options;
    // A chunk is asked for what it has in its own time, never at once.
    const deadline = Deadline.in(timeoutMs === undefined ? undefined : Math.max(1, timeoutMs));
    await this.#rows(OpenRows.run(from, to - from), sliceBatch(this.#batch, from, to), deadline);
    this.#chunksDone++;
    this.#rowsDone += to - from;
    this.#options.onProgress?.({
      rowsDone: this.#rowsDone,
      rowsTotal: this.#batch.rows,
      chunksDone: this.#chunksDone,
      chunksTotal: this.#chunks.length,
    });
  }

  /** Rows as one call; where failed rows become null, rows that are refused stay out of it, and too many of them are halved. */
  async #rows(open: OpenRows, batch: CountedBatch, deadline: Deadline | null): Promise<void> {
    let [handle, sent]: [CallHandle | null, CountedBatch] = [null, batch];
    while (handle === null) {
      try {
        handle = await this.#submitted(sent, deadline);
      } catch (error) {
        if (!this.#isLenient || this.#stop.signal.aborted) throw error;
        if (error instanceof TimeoutError) return this.#tooLate(open.rows);
        if (open.isCut(error)) return this.#halves(open.rows, sent, deadline);
        const left = open.refuse(error, await nullsOf(sent));
        if (left === null) throw error;
        for (const [row, refusal] of open.refused) this.#errors.set(row, refusal);
        sent = await pickRows(sent, left);
      }
    }
    const result = await this.#settled(handle, deadline);
    this.#inFlight.delete(handle);
    if (result === null) this.#tooLate(open.rows);
    else await this.#keep(handle, open.rows, result, deadline);
  }

  async #halves(rows: readonly number[], batch: CountedBatch, deadline: Deadline | null): Promise<void> {
    const middle = rows.length >> 1;
    await this.#rows(new OpenRows(rows.slice(0, middle)), sliceBatch(batch, 0, middle), deadline);
    await this.#rows(new OpenRows(rows.slice(middle)), sliceBatch(batch, middle, rows.length), deadline);
  }

  get #isLenient(): boolean {
    return this.#options.onError === 'null';
  }

  /** The call of rows. One that is given up before its answer is left to come, and is cancelled then. */
  async #submitted(batch: CountedBatch, deadline: Deadline | null): Promise<CallHandle> {
    const [unwanted, late] = [new AbortController(), new AbortController()];
    const options = { ...callOptions(this.#options), signal: late.signal };
    const submission = this.#target.submit(batch, options, { unwanted: unwanted.signal });
    try {
      const handle = await unlessAborted(deadline?.bound(submission) ?? submission, this.#stop.signal);
      this.#inFlight.add(handle);
      if (this.#stop.signal.aborted) void giveUp(handle);
      return handle;
    } catch (error) {
      unwanted.abort(error);
      const end = setTimeout(() => late.abort(), CLOSING_MS);
      submission
        .then(giveUp)
        .catch(() => undefined)
        .finally(() => clearTimeout(end));
      throw error instanceof TimeoutError ? new TimeoutError(null, this.#options.timeoutMs!) : error;
    }
  }

  /**
   * The result; where failed rows become null, a chunk that is too late is cancelled and what is finished is kept. null: the
   * server does not even say that.
   */
  async #settled(handle: CallHandle, deadline: Deadline | null): Promise<CallResult | null> {
    const { signal } = this.#stop;
    try {
      return await handle.result({ timeoutMs: leftMs(deadline), signal });
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      if (!this.#isLenient) throw new TimeoutError(handle.callId, this.#options.timeoutMs!);
    }
    try {
      await handle.cancel({ timeoutMs: 1, signal });
      const { errors, ...kept } = await handle.result({ timeoutMs: CLOSING_MS, signal });
      const late = [...errors].map(([row, error]) =>
        error.code === 'row_cancelled' ? ([row, this.#lateness()] as const) : ([row, error] as const),
      );
      return { ...kept, errors: new Map(late) };
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      void giveUp(handle);
      return null;
    }
  }

  #lateness(): RowErrorJson {
    const message = `the chunk was not finished after ${this.#options.timeoutMs} ms and was cancelled`;
    return { code: 'row_cancelled', message };
  }

  /** Rows of which the server says nothing. */
  #tooLate(rows: readonly number[]): void {
    for (const row of rows) this.#errors.set(row, this.#lateness());
  }

  async #keep(
    handle: CallHandle,
    rows: readonly number[],
    { values, errors }: CallResult,
    deadline: Deadline | null,
  ): Promise<void> {
    if (errors.size > 0 && !this.#isLenient) throw new CallFailedError(handle.callId, errors, values);
    values.forEach((value, i) => {
      this.#result[rows[i]!] = value as Output | null;
    });
    for (const [row, error] of errors) this.#errors.set(rows[row]!, error);
    const timeoutMs = leftMs(deadline) ?? CLOSING_MS;
    // The server drops the result without the word as well, but later.
    await handle.acknowledge({ timeoutMs, signal: this.#stop.signal }).catch(() => undefined);
  }
}

/** What is left of a wait that waits, if only for an answer. */
const leftMs = (deadline: Deadline | null): number | undefined =>
  deadline === null ? undefined : Math.max(1, deadline.leftMs);

/** Nobody waits for the call any more, nor for this. */
const giveUp = async (handle: CallHandle): Promise<void> => {
  await handle.cancel({ timeoutMs: CLOSING_MS }).catch(() => undefined);
};

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

export const checkChunkOptions = (options: ChunkedCallOptions): void => {
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
  checkChunkOptions(options);
  return new ChunkedRun<Output>(target, await countedBatch(batch), options).run();
};
