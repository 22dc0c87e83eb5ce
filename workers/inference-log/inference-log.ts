/**
 * The inference store's side in a worker: rows of settled batches, sampled, copied out of their batch as column buffers, and
 * written as Parquet files by a thread (docs/decisions/0018).
 *
 *   settled ─ sampled ─► copied ─► thread: gathered, encoded ─► artifact ─► document
 *               └ no room, or a failure: dropped, and counted
 *
 * Nobody waits for it, and nothing that goes wrong here reaches a batch.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import { type InferenceFile, inferenceFileKey } from '../../shared/domain/inference.ts';
import { groupNameOf } from '../../shared/domain/model.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { metrics } from '../../shared/runtime/metrics.ts';
import { storeWhole } from '../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import type { WrittenFile } from './file-thread.ts';
import { FileWriter } from './file-writer.ts';
import type { VersionFacts } from './sample.ts';
import { VersionSampler } from './version-sampler.ts';

/** Sampled rows that are not stored yet, of all versions of this process; above it rows are dropped. */
export const WAITING_BYTES_MAX = 64 * 2 ** 20;
/** Waits between tries to store a file; the rows behind it wait as well. */
const RETRY_MS = [500, 2000, 8000];
/** Of bytes on their way to the artifacts. */
const CHUNK_BYTES = 256 * 1024;
/** One word of losses in so long: they come with every batch. */
const COMPLAIN_MS = 60_000;

export type InferenceLogOptions = {
  readonly documents: Documents;
  /** null: this worker has none, and nothing is kept. */
  readonly artifacts: Artifacts | null;
  /** Of the store: calls' ids carry it. */
  readonly generation: string;
  readonly log: Log;
};

type Loss = {
  readonly functionName: string;
  readonly rows: number;
  readonly reason: string;
  readonly error?: unknown;
};

export class InferenceLog {
  readonly #options: InferenceLogOptions;
  readonly #writer: FileWriter;
  readonly #stopping = new AbortController();
  /** Of what was taken and is not stored. */
  #waitingBytes = 0;
  #storing: Promise<void> = Promise.resolve();
  readonly #copying = new Set<Promise<void>>();
  #complainedAt = Number.NEGATIVE_INFINITY;
  #hasToldOfAbsence = false;

  constructor(options: InferenceLogOptions) {
    this.#options = options;
    const { generation, log } = options;
    this.#writer = new FileWriter({
      generation,
      log,
      onFile: (facts, rows, bytes, file, reason) => this.#written(facts, rows, bytes, file, reason),
    });
  }

  /** null: nothing of the version is sampled. */
  of(version: FunctionVersion): VersionSampler | null {
    const facts = factsOf(version);
    const { inferenceStore } = version.spec;
    if (facts === null || inferenceStore == null) return null;
    if (this.#options.artifacts === null) {
      if (!this.#hasToldOfAbsence)
        this.#options.log.warn('this worker has no place for artifacts: nothing goes to the inference store');
      this.#hasToldOfAbsence = true;
      return null;
    }
    return new VersionSampler(facts, inferenceStore.sampleRate, {
      reserve: (bytes) => this.#reserve(bytes),
      copying: (copy) => {
        this.#copying.add(copy);
        void copy.finally(() => this.#copying.delete(copy));
      },
      release: (bytes) => {
        this.#waitingBytes -= bytes;
      },
      add: (sample) => this.#writer.add(sample, facts),
      flush: () => this.#writer.flushVersion(facts.versionId),
      lose: (rows, reason, error) =>
        this.#lose({
          functionName: facts.functionName,
          rows,
          reason,
          ...(error === undefined ? {} : { error }),
        }),
    });
  }

  #reserve(bytes: number): boolean {
    if (this.#stopping.signal.aborted || this.#waitingBytes + bytes > WAITING_BYTES_MAX) return false;
    this.#waitingBytes += bytes;
    return true;
  }

  /** Writes what is there, for `graceMs` at most. Nothing is taken any more. Safe to call twice. */
  async stop(graceMs: number): Promise<void> {
    const timer = new AbortController();
    const written = this.flush().then(() => timer.abort());
    await Promise.race([
      written,
      pause(Math.max(0, graceMs), undefined, { signal: timer.signal }).catch(() => undefined),
    ]);
    this.#stopping.abort();
    await this.#writer.stop();
  }

  /** Writes what is there, and goes on. Never rejects. */
  async flush(): Promise<void> {
    await Promise.all(this.#copying);
    await this.#writer.flush();
    await this.#storing;
  }

  #written(
    facts: VersionFacts,
    rows: number,
    bytes: number,
    file: WrittenFile | null,
    reason: string | null,
  ): void {
    const lost = rows - (file?.rows ?? 0);
    if (lost > 0) this.#lose({ functionName: facts.functionName, rows: lost, reason: reason ?? 'no reason' });
    if (file === null) {
      this.#waitingBytes -= bytes;
      return;
    }
    // Files of small rows are larger than what was taken of them: each row has its own facts.
    const heldBytes = Math.max(bytes, file.parquet.byteLength);
    this.#waitingBytes += heldBytes - bytes;
    this.#storing = this.#storing
      .then(() => this.#store(facts, file))
      .finally(() => {
        this.#waitingBytes -= heldBytes;
      });
  }

  /** Never rejects. */
  async #store(facts: VersionFacts, file: WrittenFile): Promise<void> {
    const { functionName } = facts;
    // One for all tries: the answer to one that succeeded may be lost.
    const uuid = randomUUID();
    for (let round = 0; ; round += 1) {
      try {
        await this.#put(facts, file, uuid);
        metrics.inferenceRows.inc({ function: functionName, status: 'stored' }, file.rows);
        return;
      } catch (error) {
        const waitMs = RETRY_MS[round];
        if (waitMs === undefined || this.#stopping.signal.aborted) {
          this.#lose({ functionName, rows: file.rows, reason: 'their file could not be stored', error });
          return;
        }
        await pause(waitMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      }
    }
  }

  async #put(
    facts: VersionFacts,
    { digest, parquet, rows, from, until }: WrittenFile,
    uuid: string,
  ): Promise<void> {
    const { documents, artifacts } = this.#options;
    const bytes = parquet.byteLength;
    await storeWhole(artifacts!, { digest, bytes, bodyFrom: (offset) => chunksOf(parquet, offset) });
    const { group, model, modelVersion, functionVersion, retentionMs } = facts;
    const value: InferenceFile = {
      ...{ group, digest, bytes, rows, from, until },
      ...{ model, modelVersion, functionVersion, retentionMs },
    };
    await documents.put({
      kind: 'inference-file',
      key: inferenceFileKey(value, uuid),
      revision: null,
      value,
    });
  }

  #lose({ functionName, rows, reason, error }: Loss): void {
    metrics.inferenceRows.inc({ function: functionName, status: 'dropped' }, rows);
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAIN_MS) return;
    this.#complainedAt = now;
    this.#options.log.warn(
      { function: functionName, rows, reason, ...(error === undefined ? {} : { err: error }) },
      'sampled rows were not kept; more may follow unsaid for a minute',
    );
  }
}

/** null: not the function of a group. */
const factsOf = ({ id, digest, spec }: FunctionVersion): VersionFacts | null => {
  const { model, inferenceStore } = spec;
  const group = groupNameOf(spec.name);
  if (model == null || inferenceStore == null || group === null) return null;
  return {
    versionId: id,
    functionName: spec.name,
    group,
    model: model.name,
    modelVersion: model.version,
    functionVersion: digest,
    retentionMs: inferenceStore.retentionMs,
    flushMs: inferenceStore.flushMs,
    inputs: spec.inputs,
    output: spec.output.type,
  };
};

const chunksOf = async function* (bytes: Uint8Array, from: number): AsyncGenerator<Uint8Array> {
  for (let at = from; at < bytes.byteLength; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
};
