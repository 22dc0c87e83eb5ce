/** One chunk from its lines to its pieces of the output and error files. Whoever runs it again finds the calls of the first time. */
import { setTimeout as pause } from 'node:timers/promises';
import { isFinished, type RowError } from '../../shared/domain/call.ts';
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { rowFailure } from '../../shared/wire/openai/openai-error.ts';
import {
  parseTaskRequest,
  requestAnswer,
  requestRows,
  rowField,
} from '../../shared/wire/openai/task-request.ts';
import { countAdmitted } from '../calls/admission-counts.ts';
import { changeDocument } from '../registry/documents.ts';
import { modelFunction } from '../registry/model-function.ts';
import { answeredLine, refusedLine, type StopCode, stoppedLine } from './answer-lines.ts';
import { ArtifactSpool } from './artifact-spool.ts';
import { type BatchLine, isFault } from './batch-line.ts';
import type { BatchRecord } from './batch-records.ts';
import {
  type Asked,
  admissionOf,
  type CallOrder,
  callEnd,
  checkAsked,
  type RowAnswer,
  rowsOf,
} from './chunk-calls.ts';
import type { Chunk } from './chunks.ts';
import { type PartRecord, partKey } from './file-records.ts';

export type RunParts = {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly wall: () => number;
  /** How long a process may be silent before another one goes on with its batches. */
  readonly claimMs: number;
};

/** Why the batch ends early; set once. */
export type Stop = { readonly signal: AbortSignal; readonly code: () => StopCode | null };

export type ChunkResult = {
  readonly completed: number;
  readonly failed: number;
  /** Of those that failed: the batch ended before they were answered. */
  readonly unanswered: number;
  readonly outputBytes: number;
  readonly errorBytes: number;
  readonly callIds: readonly number[];
};

/** A queue that is full is tried again after these. */
const BACK_OFF_MS_MIN = 200;
const BACK_OFF_MS_MAX = 15_000;

type Prepared =
  | { readonly line: BatchLine; readonly asked: Asked; readonly group: Group }
  | { readonly number: number; readonly customId: string | null; readonly refusal: SluiceError };

type Group = {
  readonly record: FunctionRecord;
  readonly asked: Asked[];
  /** Numbers of the lines that asked. */
  readonly lines: number[];
  answers: AsyncGenerator<RowAnswer> | SluiceError | 'stopped';
  callId: number | null;
};

export class ChunkRun {
  readonly #parts: RunParts;
  readonly #batch: BatchRecord;
  readonly #chunk: Chunk;
  readonly #stop: Stop;
  readonly #halt: AbortSignal;
  readonly #mayHaveBegun: boolean;

  /** @param mayHaveBegun its calls may be there, of somebody who ran it before */
  constructor(
    parts: RunParts,
    batch: BatchRecord,
    chunk: Chunk,
    { stop, halt, mayHaveBegun }: { stop: Stop; halt: AbortSignal; mayHaveBegun: boolean },
  ) {
    this.#parts = parts;
    this.#batch = batch;
    this.#chunk = chunk;
    this.#stop = stop;
    this.#halt = halt;
    this.#mayHaveBegun = mayHaveBegun;
  }

  /** @throws the reason of `halt`; errors of the store and of the artifacts, after which it may be run again */
  async run(): Promise<ChunkResult> {
    const groups = new Map<string, Group>();
    const prepared = await this.#prepare(groups);
    await Promise.all([...groups.values()].map((group) => this.#call(group)));
    const [output, errors] = [await ArtifactSpool.open(), await ArtifactSpool.open()];
    try {
      const counts = await this.#write(prepared, output, errors);
      const { outputFileId, errorFileId } = this.#batch;
      const outputBytes = await this.#keep(output, outputFileId);
      const errorBytes = await this.#keep(errors, errorFileId);
      const callIds = [...groups.values()].flatMap(({ callId }) => (callId === null ? [] : [callId]));
      return { ...counts, outputBytes, errorBytes, callIds };
    } finally {
      await Promise.all([output.close(), errors.close()]);
      for (const { answers } of groups.values())
        if (typeof answers === 'object' && 'return' in answers) await answers.return(undefined);
    }
  }

  async #prepare(groups: Map<string, Group>): Promise<Prepared[]> {
    const { registry } = this.#parts.store;
    const models = new Map<string, Promise<FunctionRecord>>();
    const find = (name: string): Promise<FunctionRecord> => {
      const catalogue = { known: () => undefined, refresh: (wanted: string) => registry.function(wanted) };
      const found = models.get(name) ?? modelFunction(catalogue, name);
      models.set(name, found);
      return found;
    };
    const prepared: Prepared[] = [];
    for (const line of this.#chunk.lines) {
      if (isFault(line)) {
        const refusal = new SluiceError('invalid_request', line.message, { field: line.param });
        prepared.push({ number: line.line!, customId: null, refusal });
        continue;
      }
      try {
        const request = parseTaskRequest(this.#batch.endpoint, line.body);
        const record = await find(request.asked.model);
        const asked = checkAsked(request, record);
        const group = groups.get(record.name) ?? newGroup(record);
        groups.set(record.name, group);
        group.asked.push(asked);
        group.lines.push(line.number);
        prepared.push({ line, asked, group });
      } catch (error) {
        if (!(error instanceof SluiceError) || error.retryable) throw error;
        prepared.push({ number: line.number, customId: line.customId, refusal: error });
      }
    }
    return prepared;
  }

  /** Admits the group's call, waits for its end, and opens its rows. */
  async #call(group: Group): Promise<void> {
    const { queue } = this.#parts.store;
    const order = this.#orderOf(group);
    const admitted = await this.#admit(order).catch(async (error: unknown) => {
      if (!(error instanceof SluiceError) || error.retryable) throw error;
      if (error.code === 'function_not_found') await this.#checkVersion(group);
      return refusalOf(error, group);
    });
    if (admitted === null) return;
    if (admitted instanceof SluiceError) {
      group.answers = admitted;
      return;
    }
    const { callId, status } = admitted;
    group.callId = callId;
    if (isFinished(status)) queue.watch({ kind: 'call', callId }, () => undefined)();
    else {
      const ended = new AbortController();
      const cancel = (): void => void this.#cancel(callId, AbortSignal.any([ended.signal, this.#halt]));
      this.#stop.signal.addEventListener('abort', cancel);
      if (this.#stop.signal.aborted) cancel();
      await callEnd(queue, callId, this.#halt).finally(() => {
        ended.abort();
        this.#stop.signal.removeEventListener('abort', cancel);
      });
    }
    group.answers = rowsOf(queue, callId);
  }

  /** @throws where the function's version went while the call waited for room: the chunk is run again, with the current one */
  async #checkVersion({ record: { name, current } }: Group): Promise<void> {
    const record = await this.#parts.store.registry.function(name);
    if (record === undefined || record.versions.some(({ id }) => id === current.id)) return;
    throw new SluiceError('store_unavailable', `The version of ${name} went that the rows were meant for.`);
  }

  /** Until it is heard: what nobody cancels waits to the end of the batch's window. */
  async #cancel(callId: number, over: AbortSignal): Promise<void> {
    for (
      let backOffMs = BACK_OFF_MS_MIN;
      !over.aborted;
      backOffMs = Math.min(2 * backOffMs, BACK_OFF_MS_MAX)
    ) {
      try {
        await this.#parts.store.queue.cancel({ now: this.#parts.wall(), callId });
        return;
      } catch {
        await pause(backOffMs, undefined, { signal: over }).catch(() => undefined);
      }
    }
  }

  #orderOf({ record, asked, lines }: Group): CallOrder {
    const { id, owner, lane, expiresAt } = this.#batch;
    const { firstLine, digest } = this.#chunk;
    return {
      ...{ record, asked, lines, owner, lane, deadlineAt: expiresAt, digest },
      key: `openai-batch/${id}/${firstLine}`,
      metadata: { openai_batch: id, first_line: String(firstLine) },
    };
  }

  /** null: the batch was stopped before there was a call. */
  async #admit(order: CallOrder) {
    const { store, wall } = this.#parts;
    for (let backOffMs = BACK_OFF_MS_MIN; ; backOffMs = Math.min(2 * backOffMs, BACK_OFF_MS_MAX)) {
      this.#halt.throwIfAborted();
      const isStopped = this.#stop.signal.aborted;
      if (isStopped && !this.#mayHaveBegun) return null;
      const now = wall();
      // One that is there is found by its key; a new one would be expired, and never start.
      const admission = admissionOf(isStopped ? { ...order, deadlineAt: now - 1 } : order, now);
      try {
        const admitted = await store.queue.admit(admission);
        countAdmitted(admission, admitted);
        return admitted;
      } catch (error) {
        if (!(error instanceof SluiceError) || !error.retryable) throw error;
        if (isStopped) return null;
      }
      const signal = AbortSignal.any([this.#halt, this.#stop.signal]);
      await pause(backOffMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #write(
    prepared: readonly Prepared[],
    output: ArtifactSpool,
    errors: ArtifactSpool,
  ): Promise<Pick<ChunkResult, 'completed' | 'failed' | 'unanswered'>> {
    const counts = { completed: 0, failed: 0, unanswered: 0 };
    for (const one of prepared) {
      this.#halt.throwIfAborted();
      const { kind, line } = await this.#answerOf(one);
      await (kind === 'completed' ? output : errors).write(line);
      counts[kind === 'completed' ? kind : 'failed'] += 1;
      if (kind === 'unanswered') counts.unanswered += 1;
    }
    return counts;
  }

  async #answerOf(one: Prepared): Promise<Answered> {
    const { id } = this.#batch;
    if ('refusal' in one) return failed(refusedLine(id, one.number, one.customId, one.refusal));
    const { line, asked, group } = one;
    const { number, customId } = line;
    if (group.answers === 'stopped') return this.#unanswered(line, this.#stop.code() ?? 'batch_expired');
    if (group.answers instanceof SluiceError) return failed(refusedLine(id, number, customId, group.answers));
    try {
      const found = await valuesOf(group.answers, requestRows(asked.request));
      if ('error' in found) {
        const stop = this.#stopOf(found.error);
        if (stop !== null) return this.#unanswered(line, stop);
        throw rowFailure(found.error, rowField(asked.request, found.row));
      }
      const createdSeconds = Math.floor((this.#batch.times.in_progress ?? this.#batch.createdAt) / 1000);
      const body = requestAnswer(asked.request, found.values, { id: `${id}-${number}`, createdSeconds });
      return { kind: 'completed', line: answeredLine(id, number, customId, body) };
    } catch (error) {
      if (!(error instanceof SluiceError) || STORE_ERRORS.has(error.code)) throw error;
      // What cannot be read of one line cannot be read of those after it.
      if (error.code === 'call_gone') group.answers = error;
      return failed(refusedLine(id, number, customId, error));
    }
  }

  #unanswered({ number, customId }: BatchLine, code: StopCode): Answered {
    return { kind: 'unanswered', line: stoppedLine(this.#batch.id, number, customId, code) };
  }

  /** Whether the row has no answer because the batch was stopped. */
  #stopOf({ code }: RowError): StopCode | null {
    if (code !== 'row_cancelled' && code !== 'row_expired') return null;
    return this.#stop.code() ?? (code === 'row_expired' ? 'batch_expired' : null);
  }

  async #keep(spool: ArtifactSpool, fileId: string): Promise<number> {
    const piece = await spool.keep(this.#parts.artifacts);
    // Nothing now, and something of whoever ran the chunk before: a function that was not there then is by now.
    if (piece === null && !this.#mayHaveBegun) return 0;
    const write: PartRecord | null = piece && { ...piece, createdAt: this.#parts.wall() };
    const key = partKey(fileId, this.#chunk.firstLine);
    await changeDocument(this.#parts.store.documents, 'openai-part', key, () => ({ write, answer: null }));
    return piece?.bytes ?? 0;
  }
}

const newGroup = (record: FunctionRecord): Group => ({
  ...{ record, asked: [], lines: [], answers: 'stopped', callId: null },
});

/** A call of other lines than those that its function takes now is of a time before the function was changed. */
const refusalOf = (error: SluiceError, { record }: Group): SluiceError =>
  error.code === 'idempotency_mismatch'
    ? new SluiceError(
        'changed_meanwhile',
        `${record.name} was changed while the batch ran; send the line again.`,
      )
    : error;

type Answered = { readonly kind: 'completed' | 'failed' | 'unanswered'; readonly line: Buffer };

const failed = (line: Buffer): Answered => ({ kind: 'failed', line });

/** Not the line's fault but the store's at that moment: the chunk runs again. */
const STORE_ERRORS: ReadonlySet<string> = new Set([
  'store_unavailable',
  'shutting_down',
  'memory_full',
  'disk_full',
  // Its key was lost with the call: run again, its rows are admitted anew.
  'data_lost',
]);

type Values = { readonly values: readonly unknown[] } | { readonly error: RowError; readonly row: number };

/** All rows of a line are taken, also behind one that failed: the next line's begin after them. */
const valuesOf = async (answers: AsyncGenerator<RowAnswer>, rows: number): Promise<Values> => {
  const values: unknown[] = [];
  let failed: { readonly error: RowError; readonly row: number } | null = null;
  for (let row = 0; row < rows; row += 1) {
    const next = await answers.next();
    if (next.done === true) throw new SluiceError('call_gone', 'The answer is not whole any more.');
    if ('value' in next.value) values.push(next.value.value);
    else failed ??= { error: next.value.error, row };
  }
  return failed ?? { values };
};
