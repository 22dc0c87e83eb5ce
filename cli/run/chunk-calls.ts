/** One chunk as one call: submitted under a key that a later run finds again, waited for, checked. */
import type { CallHandle, RemoteFunction } from '../../sdk/index.ts';
import { SluiceError } from '../../sdk/index.ts';
import { OpenRows } from '../../sdk/open-rows.ts';
import { isTooLarge, refusalOf, refusedRow } from '../../sdk/refused-row.ts';
import { errorTexts } from '../../sdk/table.ts';
import { backOffMs, pause, unlessAborted } from '../../sdk/transport.ts';
import { openStream } from '../../shared/arrow/index.ts';
import type { RowErrorJson } from '../../shared/wire/api.ts';
import { CommandError } from '../failure.ts';
import { OpenChunk } from './open-chunk.ts';

export type ChunkCall = { readonly chunk: number; readonly fromRow: number; readonly key: string };

export type ChunkAnswer = {
  /** The call; several where the server takes less at once. */
  readonly handles: readonly CallHandle[];
  readonly bytes: Uint8Array;
  readonly rowsFailed: number;
};

/** So long after a run has stopped, a server that does not answer is waited for. */
const STOP_LONGEST_MS = 2000;

/** A row of a chunk failed or was refused, and the run is to stop at the first. */
export class RowsFailedError extends CommandError {}

/** The server takes fewer rows, or bytes, at once than a chunk has. */
export class ChunkTooLargeError extends CommandError {}

/** What is finished came from another version. */
export class VersionChangedError extends CommandError {}

/** The server is full or restarts: what was asked is right, and is asked again. */
const isPassing = (error: unknown): boolean =>
  error instanceof SluiceError && (error.code === 'queue_full' || error.code === 'shutting_down');

const isGone = (error: unknown): boolean =>
  error instanceof SluiceError && (error.code === 'call_gone' || error.code === 'call_not_found');

export class ChunkCalls {
  readonly #target: RemoteFunction;
  readonly #version: string;
  readonly #isLenient: boolean;
  readonly #signal: AbortSignal;
  /** Aborts a while after `#signal`: a call that is being submitted is known then, and can be cancelled. */
  readonly #late = new AbortController();
  readonly #inFlight = new Set<CallHandle>();

  constructor(target: RemoteFunction, version: string, isLenient: boolean, signal: AbortSignal) {
    this.#target = target;
    this.#version = version;
    this.#isLenient = isLenient;
    this.#signal = signal;
    const abortLate = (): void => this.#late.abort(signal.reason);
    signal.addEventListener('abort', () => setTimeout(abortLate, STOP_LONGEST_MS).unref(), { once: true });
  }

  /** @throws RowsFailedError, ChunkTooLargeError where a row failed or was refused and the run stops at failures */
  answer(call: ChunkCall, rows: Uint8Array): Promise<ChunkAnswer> {
    return this.#answer(call, new OpenChunk(rows, OpenRows.run(call.fromRow, openStream(rows).rows)));
  }

  async #answer(call: ChunkCall, chunk: OpenChunk): Promise<ChunkAnswer> {
    for (let attempt = 0; ; attempt++) {
      this.#signal.throwIfAborted();
      const key = attempt === 0 ? call.key : `${call.key}-${attempt}`;
      const handle = await this.#submitOpen(key, call, chunk);
      if (handle === null) return this.#halves(call, chunk);
      this.#inFlight.add(handle);
      try {
        const { bytes, call: end } = await handle.arrow({ signal: this.#signal });
        // A call of an earlier run that was cancelled, or that failed, is tried again; one of this run is not.
        if (end.rowsFailed > 0 && handle.submitted?.attached === true) continue;
        if (end.rowsFailed > 0 && !this.#isLenient) throw this.#failure(call, bytes);
        const rowsFailed = end.rowsFailed + chunk.rowsRefused;
        return { handles: [handle], bytes: chunk.whole([bytes]), rowsFailed };
      } catch (error) {
        if (!isGone(error) || handle.submitted?.attached !== true) throw error;
      } finally {
        if (!this.#signal.aborted) this.#inFlight.delete(handle);
      }
    }
  }

  /** Each half under a key of its own, which a later run finds again as well. */
  async #halves(call: ChunkCall, chunk: OpenChunk): Promise<ChunkAnswer> {
    const answers: ChunkAnswer[] = [];
    for (const [i, half] of chunk.halves().entries())
      answers.push(await this.#answer({ ...call, key: `${call.key}.${i}` }, half));
    return {
      handles: answers.flatMap(({ handles }) => handles),
      bytes: chunk.whole(answers.map(({ bytes }) => bytes)),
      rowsFailed: answers.reduce((rows, { rowsFailed }) => rows + rowsFailed, chunk.rowsRefused),
    };
  }

  /** What is refused is nothing on the server, and its key is free. null: one call of what is left would be too large. */
  async #submitOpen(key: string, call: ChunkCall, chunk: OpenChunk): Promise<CallHandle | null> {
    for (;;) {
      try {
        return await this.#submit(key, chunk.bytes);
      } catch (error) {
        if (this.#isLenient && chunk.isCut(error)) return null;
        if (this.#isLenient && chunk.refuse(error)) continue;
        throw this.#refusal(error, call, openStream(chunk.bytes).rows);
      }
    }
  }

  #refusal(error: unknown, { chunk, fromRow }: ChunkCall, rows: number): unknown {
    const row = refusedRow(error);
    if (row !== null) return new RowsFailedError(`${refusalOf(error, fromRow + row).message}.`);
    if (!isTooLarge(error) || rows === 0) return error;
    const why = error.message.replace(/\.$/, '');
    if (rows === 1) return new RowsFailedError(`Row ${fromRow} is too large: ${why}.`);
    return new ChunkTooLargeError(
      `Chunk ${chunk} (rows ${fromRow} to ${fromRow + rows - 1}) is too large: ${why}; ` +
        'lower --chunk-size, or go on without rows that alone are too large with --on-error null.',
    );
  }

  async #submit(key: string, rows: Uint8Array): Promise<CallHandle> {
    for (let attempt = 0; ; attempt++) {
      try {
        const handle = await this.#target.deferBatch(rows, {
          idempotencyKey: key,
          signal: this.#late.signal,
        });
        this.#checkVersion(handle);
        return handle;
      } catch (error) {
        if (!isPassing(error)) throw error;
        await pause(backOffMs(Math.min(attempt, 7)), this.#signal);
      }
    }
  }

  #checkVersion(handle: CallHandle): void {
    const version = handle.submitted?.version;
    if (version === undefined || version === this.#version) return;
    this.#inFlight.add(handle);
    throw new VersionChangedError(
      `${this.#target.name} was deployed again during the run (${this.#version} → ${version}); ` +
        'run the same command again: it begins anew, so that all results come from the new version.',
    );
  }

  #failure(call: ChunkCall, bytes: Uint8Array): RowsFailedError {
    const first = errorTexts(bytes).entries().next().value;
    const cause = first
      ? (JSON.parse(first[1]) as RowErrorJson)
      : { code: 'handler_error', message: 'unknown' };
    return new RowsFailedError(
      `Row ${call.fromRow + (first?.[0] ?? 0)} failed: ${cause.kind ? `${cause.kind}: ` : ''}${cause.message} (${cause.code}).`,
    );
  }

  /** The server need not keep the result. A lost acknowledgement costs it disk for a while. */
  async acknowledge(handles: readonly CallHandle[]): Promise<void> {
    const told = Promise.allSettled(handles.map((handle) => handle.acknowledge()));
    await unlessAborted(told, this.#late.signal).catch(() => undefined);
  }

  /** After the signal: what was accepted and is not needed any more, as far as the server answers. */
  async cancelInFlight(): Promise<void> {
    const cancels = Promise.allSettled([...this.#inFlight].map((handle) => handle.cancel()));
    await unlessAborted(cancels, AbortSignal.timeout(STOP_LONGEST_MS)).catch(() => undefined);
    this.#inFlight.clear();
  }
}
