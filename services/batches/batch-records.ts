/**
 * Batches of OpenAI's API, as documents: `openai-batch` under its owner is what callers see; `openai-run` is there while the
 * batch is unfinished, and says who runs it and how far it is.
 *
 *   validating ─► in_progress ─► finalizing ─► completed | expired | cancelled
 *       │  └► failed    └► cancelling ─┘
 *       └► cancelling ─► cancelled
 */
import type { Digest } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import type { BatchStatus } from '../../shared/wire/openai/schemas.ts';
import type { Endpoint } from '../../shared/wire/openai/task-request.ts';
import { changeDocument } from '../registry/documents.ts';
import { type FileRecord, listOwn, newId, type Owner, ownKey, type Page, readOwn } from './file-records.ts';

export type LineFault = {
  readonly code: string;
  /** From 1 on; null: of the whole file. */
  readonly line: number | null;
  readonly message: string;
  readonly param: string | null;
};

export type RequestCounts = { readonly total: number; readonly completed: number; readonly failed: number };

export type BatchRecord = {
  readonly id: string;
  readonly owner: number;
  /** The fairness key of its calls. */
  readonly lane: string;
  readonly endpoint: Endpoint;
  readonly inputFileId: string;
  readonly completionWindow: string;
  readonly status: BatchStatus;
  /** What finalizing ends in. */
  readonly ending: 'completed' | 'expired' | 'cancelled';
  readonly faults: readonly LineFault[];
  readonly createdAt: number;
  readonly expiresAt: number;
  /** When it came to each status. */
  readonly times: Readonly<Partial<Record<BatchStatus, number>>>;
  /** Given beforehand; the files are there when the batch is finished, where anything is in them. */
  readonly outputFileId: string;
  readonly errorFileId: string;
  readonly hasOutput: boolean;
  readonly hasErrors: boolean;
  readonly outputSeconds: number | null;
  /** Of a finished batch; of another one its run has them. */
  readonly counts: RequestCounts;
  readonly metadata: Readonly<Record<string, string>> | null;
};

export type RunRecord = {
  /** Of the batch. */
  readonly key: string;
  readonly digest: Digest;
  readonly bytes: number;
  readonly createdAt: number;
  /** From when on nothing of it begins any more: the end of its window, or its cancellation. */
  readonly endsAt: number;
  /** Who runs it, and until when if nothing more is heard. */
  readonly claim: { readonly token: string; readonly until: number } | null;
  /** The first byte, and the line there, whose answers are not stored yet. */
  readonly cursor: { readonly byte: number; readonly line: number };
  readonly counts: RequestCounts;
  /** Requests that the batch's end came before. */
  readonly unanswered: number;
  readonly outputBytes: number;
  readonly errorBytes: number;
};

export const NO_COUNTS: RequestCounts = { total: 0, completed: 0, failed: 0 };
/** Unfinished at once, of all keys; each holds a place in a list that runners look at every second. */
const RUNS_MAX = 1000;

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const WINDOW_MS_MAX = 14 * 86_400_000;

const windowMs = (window: string): number => {
  const ms = Number(window.slice(0, -1)) * UNITS[window.at(-1)!]!;
  if (ms <= WINDOW_MS_MAX) return ms;
  throw new SluiceError(
    'invalid_request',
    `completion_window is ${JSON.stringify(window)}; give at most 14d.`,
    { field: 'completion_window' },
  );
};

export const isOver = (status: BatchStatus): boolean =>
  status === 'failed' || status === 'completed' || status === 'expired' || status === 'cancelled';

export type BatchOrder = {
  readonly file: FileRecord;
  readonly endpoint: Endpoint;
  readonly completionWindow: string;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly outputSeconds: number | null;
  readonly lane: string;
};

export class Batches {
  readonly #documents: Documents;

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  /** @throws SluiceError `queue_full`, `invalid_request` */
  async create(order: BatchOrder, owner: number, now: number): Promise<BatchRecord> {
    const { file, endpoint, completionWindow, metadata, outputSeconds, lane } = order;
    if (file.purpose !== 'batch' || file.digest === null)
      throw new SluiceError(
        'invalid_request',
        `input_file_id is ${file.id}, whose purpose is ${file.purpose}; upload the requests with the purpose "batch".`,
        { field: 'input_file_id' },
      );
    const expiresAt = now + windowMs(completionWindow);
    const runs = await this.#documents.list({ kind: 'openai-run', limit: RUNS_MAX });
    if (runs.length >= RUNS_MAX)
      throw new SluiceError('queue_full', `${RUNS_MAX} batches are unfinished, the most that may be.`, {
        retry_after_seconds: 60,
      });
    const id = newId('batch', owner, now);
    const record: BatchRecord = {
      ...{ id, owner, lane, endpoint, inputFileId: file.id, completionWindow, status: 'validating' },
      ...{ ending: 'completed', faults: [], createdAt: now, expiresAt, times: {}, outputSeconds, metadata },
      ...{ outputFileId: newId('file', owner, now), errorFileId: newId('file', owner, now) },
      ...{ hasOutput: false, hasErrors: false, counts: NO_COUNTS },
    };
    const key = `${owner}/${id}`;
    const run: RunRecord = {
      ...{ key, digest: file.digest, bytes: file.bytes, createdAt: now, endsAt: expiresAt },
      ...{ claim: null, cursor: { byte: 0, line: 1 }, counts: NO_COUNTS, unanswered: 0 },
      ...{ outputBytes: 0, errorBytes: 0 },
    };
    // The run first: one without a batch is dropped, a batch without a run would wait for ever.
    await this.#documents.put({ kind: 'openai-run', key: id, revision: null, value: run });
    await this.#documents.put({ kind: 'openai-batch', key, revision: null, value: record });
    return record;
  }

  /** @throws SluiceError `not_found` */
  async find(id: string, owner: Owner): Promise<BatchRecord> {
    return this.#counted(await readOwn<BatchRecord>(this.#documents, 'batch', id, owner));
  }

  async list(owner: number, after: string | null, limit: number): Promise<Page<BatchRecord>> {
    const page = await listOwn<BatchRecord>(this.#documents, 'batch', owner, { after, limit });
    return { ...page, entries: await Promise.all(page.entries.map((record) => this.#counted(record))) };
  }

  async #counted(record: BatchRecord): Promise<BatchRecord> {
    if (isOver(record.status)) return record;
    const run = await this.#documents.get('openai-run', record.id);
    return run === undefined ? record : { ...record, counts: (run.value as RunRecord).counts };
  }

  /** @throws SluiceError `not_found`, `invalid_request` when it is over, or nearly so */
  async cancel(id: string, owner: Owner, now: number): Promise<BatchRecord> {
    await this.find(id, owner);
    const record = await changeDocument<BatchRecord, BatchRecord>(
      this.#documents,
      'openai-batch',
      ownKey(id, owner)!,
      (found) => {
        const batch = found!;
        if (batch.status === 'cancelling') return { answer: batch };
        if (batch.status !== 'validating' && batch.status !== 'in_progress')
          throw new SluiceError(
            'invalid_request',
            `The batch ${id} is ${batch.status}; it cannot be cancelled.`,
            {
              field: 'id',
            },
          );
        const write = withStatus(batch, 'cancelling', now);
        return { write, answer: write };
      },
    );
    // Also of one that was cancelled before: whoever did may have got no further.
    await changeDocument<RunRecord, null>(this.#documents, 'openai-run', id, (run) =>
      run === undefined || run.endsAt <= now
        ? { answer: null }
        : { write: { ...run, endsAt: now }, answer: null },
    );
    return this.#counted(record);
  }
}

export const withStatus = (batch: BatchRecord, status: BatchStatus, now: number): BatchRecord => ({
  ...batch,
  status,
  times: { ...batch.times, [status]: now },
});

const seconds = (at: number | undefined): number | null => (at === undefined ? null : Math.floor(at / 1000));

export const presentBatch = (batch: BatchRecord) => ({
  id: batch.id,
  object: 'batch' as const,
  endpoint: batch.endpoint,
  errors: batch.faults.length === 0 ? null : { object: 'list' as const, data: batch.faults },
  input_file_id: batch.inputFileId,
  completion_window: batch.completionWindow,
  status: batch.status,
  // Before its end they are not there yet.
  output_file_id: isOver(batch.status) && batch.hasOutput ? batch.outputFileId : null,
  error_file_id: isOver(batch.status) && batch.hasErrors ? batch.errorFileId : null,
  created_at: seconds(batch.createdAt)!,
  in_progress_at: seconds(batch.times.in_progress),
  expires_at: seconds(batch.expiresAt),
  finalizing_at: seconds(batch.times.finalizing),
  completed_at: seconds(batch.times.completed),
  failed_at: seconds(batch.times.failed),
  expired_at: seconds(batch.times.expired),
  cancelling_at: seconds(batch.times.cancelling),
  cancelled_at: seconds(batch.times.cancelled),
  request_counts: batch.counts,
  metadata: batch.metadata,
});
