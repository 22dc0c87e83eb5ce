/** One batch from where it is to its end, by whoever holds its claim. Everything that it does can be done again. */
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { BatchStatus } from '../../shared/wire/openai/schemas.ts';
import { changeDocument } from '../registry/documents.ts';
import type { StopCode } from './answer-lines.ts';
import { type BatchRecord, isOver, type LineFault, type RunRecord, withStatus } from './batch-records.ts';
import { type ChunkResult, ChunkRun, type RunParts } from './chunk-run.ts';
import { type Chunk, chunksOf } from './chunks.ts';
import { Files } from './file-records.ts';
import { validateInput } from './validation.ts';

/** Chunks whose calls are under way at once: several replicas have something to do while answers are written. */
const CHUNKS_MAX = 8;
/** How soon a cancellation, or the end of the window, is noticed. */
const LOOK_MS = 500;
/** A run is written before its batch. */
const ORPHAN_MS = 60_000;

/** Another one runs it by now. */
export class ClaimLost extends Error {}

export class BatchRun {
  readonly #parts: RunParts & { readonly log: Log };
  readonly #id: string;
  readonly #token: string;
  readonly #halt = new AbortController();
  readonly #stopped = new AbortController();
  #stopCode: StopCode | null = null;
  #progressAt: number;

  constructor(parts: RunParts & { readonly log: Log }, id: string, token: string) {
    this.#parts = parts;
    this.#id = id;
    this.#token = token;
    this.#progressAt = parts.wall();
  }

  /** When it last came further. */
  get progressAt(): number {
    return this.#progressAt;
  }

  get isHalted(): boolean {
    return this.#halt.signal.aborted;
  }

  halt(reason: Error): void {
    this.#halt.abort(reason);
  }

  /** @throws ClaimLost, the reason of a halt, and what the store or the artifacts could not do */
  async run(): Promise<void> {
    const run = await this.#readRun();
    const batch = await this.#readBatch(run.key);
    if (batch === null) {
      if (this.#parts.wall() - run.createdAt > ORPHAN_MS) await this.#forget();
      return;
    }
    const timer = this.#watch(run.key);
    try {
      await this.#advance(batch, run);
    } finally {
      clearInterval(timer);
    }
  }

  async #advance(batch: BatchRecord, run: RunRecord): Promise<void> {
    if (isOver(batch.status)) return this.#forget();
    if (batch.status === 'finalizing') return this.#finish(batch, run);
    if (batch.times.in_progress === undefined) {
      if (batch.status === 'cancelling') return this.#end(batch, run.key, 'cancelled');
      const validated = await this.#validate(batch, run);
      if (validated === null) return;
      return this.#advance(validated, await this.#readRun());
    }
    await this.#answer(batch, run);
    const ended = await this.#readRun();
    await this.#finish(await this.#finalize(ended), ended);
  }

  /** null: it is over already. */
  async #validate(batch: BatchRecord, { key, digest }: RunRecord): Promise<BatchRecord | null> {
    const { artifacts } = this.#parts;
    const goOn = (): void => {
      this.#halt.signal.throwIfAborted();
      this.#progressAt = this.#parts.wall();
    };
    const found = await artifacts
      .read({ digest })
      .then(({ body }) => validateInput(body, batch.endpoint, goOn))
      .catch((error: unknown) => ({ total: 0, faults: [missingInput(error, batch)] }));
    if (found.faults.length > 0) {
      await this.#end({ ...batch, faults: found.faults }, key, 'failed');
      return null;
    }
    await this.#changeRun((run) => ({ ...run, counts: { ...run.counts, total: found.total } }));
    return this.#changeBatch(key, (now) => {
      const next = withStatus(
        now,
        now.status === 'cancelling' ? 'cancelling' : 'in_progress',
        this.#parts.wall(),
      );
      return { ...next, times: { ...next.times, in_progress: this.#parts.wall() } };
    });
  }

  /** All chunks from the cursor on, several at once, committed in their order. */
  async #answer(batch: BatchRecord, run: RunRecord): Promise<void> {
    if (run.cursor.byte >= run.bytes) return;
    const { digest, cursor } = run;
    const { body } = await this.#parts.artifacts.read({ digest, fromByte: cursor.byte });
    const running: { readonly chunk: Chunk; readonly done: Promise<ChunkResult> }[] = [];
    const stop = { signal: this.#stopped.signal, code: () => this.#stopCode };
    let begun = 0;
    try {
      for await (const chunk of chunksOf(body, cursor, batch.endpoint)) {
        this.#halt.signal.throwIfAborted();
        if (running.length === CHUNKS_MAX) await this.#commit(running.shift()!);
        const options = { stop, halt: this.#halt.signal, mayHaveBegun: begun < CHUNKS_MAX };
        const done = new ChunkRun(this.#parts, batch, chunk, options).run();
        done.catch(() => undefined);
        running.push({ chunk, done });
        begun += 1;
      }
      while (running.length > 0) await this.#commit(running.shift()!);
    } catch (error) {
      this.#halt.abort(error);
      throw error;
    } finally {
      await Promise.allSettled(running.map(({ done }) => done));
    }
  }

  async #commit({
    chunk,
    done,
  }: {
    readonly chunk: Chunk;
    readonly done: Promise<ChunkResult>;
  }): Promise<void> {
    const { completed, failed, unanswered, outputBytes, errorBytes, callIds } = await done;
    await this.#changeRun((run) => ({
      ...run,
      cursor: chunk.end,
      counts: {
        ...run.counts,
        completed: run.counts.completed + completed,
        failed: run.counts.failed + failed,
      },
      unanswered: run.unanswered + unanswered,
      outputBytes: run.outputBytes + outputBytes,
      errorBytes: run.errorBytes + errorBytes,
    }));
    const { store, wall } = this.#parts;
    this.#progressAt = wall();
    // The answers are kept: what is left of the calls may go early.
    for (const callId of callIds)
      await store.retention.acknowledge({ now: wall(), callId }).catch(() => undefined);
  }

  #finalize(run: RunRecord): Promise<BatchRecord> {
    return this.#changeBatch(run.key, (batch) => {
      if (batch.status === 'finalizing' || isOver(batch.status)) return batch;
      const cutShort = batch.status === 'cancelling' ? 'cancelled' : 'expired';
      const isWhole = batch.status !== 'cancelling' && run.unanswered === 0;
      const ending = isWhole ? 'completed' : cutShort;
      return {
        ...withStatus(batch, 'finalizing', this.#parts.wall()),
        ...{ ending, counts: run.counts, hasOutput: run.outputBytes > 0, hasErrors: run.errorBytes > 0 },
      };
    });
  }

  async #finish(batch: BatchRecord, run: RunRecord): Promise<void> {
    const { store, artifacts, wall } = this.#parts;
    const files = new Files(store.documents, artifacts);
    const now = wall();
    const expiresAt = batch.outputSeconds === null ? null : now + batch.outputSeconds * 1000;
    const file = {
      owner: batch.owner,
      purpose: 'batch_output' as const,
      digest: null,
      createdAt: now,
      expiresAt,
    };
    const { id, outputFileId, errorFileId } = batch;
    if (batch.hasOutput)
      await files.put({ ...file, id: outputFileId, filename: `${id}_output.jsonl`, bytes: run.outputBytes });
    if (batch.hasErrors)
      await files.put({ ...file, id: errorFileId, filename: `${id}_error.jsonl`, bytes: run.errorBytes });
    await this.#end(batch, run.key, batch.ending);
  }

  async #end({ faults }: BatchRecord, key: string, status: BatchStatus): Promise<void> {
    const { log, wall } = this.#parts;
    const { counts } = await this.#changeBatch(key, (batch) =>
      isOver(batch.status) ? batch : { ...withStatus(batch, status, wall()), faults },
    );
    await this.#forget();
    log.info({ batch: this.#id, status, ...counts }, 'a batch is over');
  }

  /** Looks at the batch now and then, and keeps the claim. */
  #watch(key: string): NodeJS.Timeout {
    let isBusy = false;
    let renewedAt = this.#parts.wall();
    const look = async (): Promise<void> => {
      const batch = await this.#readBatch(key);
      if (batch?.status === 'cancelling') this.#stop('batch_cancelled');
      else if (batch !== null && this.#parts.wall() >= batch.expiresAt) this.#stop('batch_expired');
      // A clock that is set back must not leave the claim as it is.
      if (Math.abs(this.#parts.wall() - renewedAt) < this.#parts.claimMs / 3) return;
      await this.#changeRun((run) => run);
      renewedAt = this.#parts.wall();
    };
    const guarded = (): void => {
      if (isBusy) return;
      isBusy = true;
      look()
        .catch((error: unknown) => {
          if (error instanceof ClaimLost) this.#halt.abort(error);
        })
        .finally(() => {
          isBusy = false;
        });
    };
    guarded();
    return setInterval(guarded, LOOK_MS);
  }

  #stop(code: StopCode): void {
    this.#stopCode ??= code;
    this.#stopped.abort();
  }

  async #readRun(): Promise<RunRecord> {
    const found = await this.#parts.store.documents.get('openai-run', this.#id);
    const run = found?.value as RunRecord | undefined;
    if (run?.claim?.token !== this.#token) throw new ClaimLost(`batch ${this.#id} is run by another`);
    return run;
  }

  async #readBatch(key: string): Promise<BatchRecord | null> {
    const found = await this.#parts.store.documents.get('openai-batch', key);
    return (found?.value as BatchRecord | undefined) ?? null;
  }

  /** Writes it with a claim as long as a new one's. @throws ClaimLost */
  #changeRun(change: (run: RunRecord) => RunRecord): Promise<void> {
    return changeDocument<RunRecord, void>(this.#parts.store.documents, 'openai-run', this.#id, (run) => {
      if (run?.claim?.token !== this.#token) throw new ClaimLost(`batch ${this.#id} is run by another`);
      const claim = { token: this.#token, until: this.#parts.wall() + this.#parts.claimMs };
      return { write: { ...change(run), claim }, answer: undefined };
    });
  }

  #changeBatch(key: string, change: (batch: BatchRecord) => BatchRecord): Promise<BatchRecord> {
    return changeDocument<BatchRecord, BatchRecord>(
      this.#parts.store.documents,
      'openai-batch',
      key,
      (batch) => {
        if (batch === undefined) throw new ClaimLost(`batch ${this.#id} is gone`);
        const write = change(batch);
        return { ...(write === batch ? {} : { write }), answer: write };
      },
    );
  }

  async #forget(): Promise<void> {
    await changeDocument<RunRecord, null>(this.#parts.store.documents, 'openai-run', this.#id, (run) =>
      run?.claim?.token === this.#token ? { write: null, answer: null } : { answer: null },
    );
  }
}

/** @throws whatever else went wrong */
const missingInput = (error: unknown, { inputFileId }: BatchRecord): LineFault => {
  if (!(error instanceof SluiceError) || error.code !== 'artifact_not_found') throw error;
  const message = `The bytes of ${inputFileId} are gone; upload it again.`;
  return { code: 'file_not_found', line: null, param: 'input_file_id', message };
};
