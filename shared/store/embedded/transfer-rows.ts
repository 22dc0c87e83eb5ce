/** The rows that a migration writes into a data directory. Each method belongs to a transaction of its caller. */
import type { StatementSync } from 'node:sqlite';
import type { RowError, Slice } from '../../domain/call.ts';
import { BugError } from '../../errors/sluice-error.ts';
import { packExtra } from '../extra.ts';
import type {
  MovedId,
  TransferBatch,
  TransferCall,
  TransferFunction,
  TransferHead,
  TransferPart,
} from '../ports/transfer.ts';
import type { Ledger } from './ledger.ts';
import { INLINE_BYTES_MAX } from './messages.ts';
import { MODES, OUTCOME_WIDTH, PART, PART_WIDTH, REASONS, SETTLED, STATUSES } from './model.ts';
import { packNumbers } from './packing.ts';
import type { SegmentRef } from './segments.ts';

/** Which output became which batch, and the outcomes that have come of it; gone when all are put together. */
export const STAGING = `
CREATE TABLE arriving_output(old INTEGER PRIMARY KEY, id INTEGER NOT NULL);
CREATE TABLE arriving_part(batch INTEGER, call INTEGER, first INTEGER, count INTEGER NOT NULL, place INTEGER NOT NULL,
  PRIMARY KEY(batch, call, first)) WITHOUT ROWID;`;

/** Batches whose outcomes one transaction puts together. */
const ASSEMBLED_BATCHES = 500;

export type ArrivingOutput = { readonly old: number; readonly versionId: number; readonly bytes: Uint8Array };

/** SQLite takes no shared memory. */
const unshared = (bytes: Uint8Array): Uint8Array =>
  bytes.buffer instanceof SharedArrayBuffer ? new Uint8Array(bytes) : bytes;

const isLive = (call: TransferCall): boolean => call.payload !== null;

export class ArrivingRows {
  readonly #ledger: Ledger;
  /** The next ids; read from the tables at the first use, since a run that was cut off left some. */
  #next: { call: number; batch: number } | null = null;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  addFunction(one: TransferFunction): void {
    this.#sql('INSERT INTO functions VALUES (?,?,?,?,?,?,?,?,?,?)').run(
      one.id,
      one.name,
      one.currentVersionId,
      one.paused ? 1 : 0,
      one.createdAt,
      one.updatedAt,
      one.removedAt,
      one.staged?.versionId ?? null,
      one.staged === null ? null : Number(one.staged.isNew),
      one.scaling === null ? null : JSON.stringify(one.scaling),
    );
    const add = this.#sql('INSERT INTO versions VALUES (?,?,?,?,?,?,?)');
    const addSource = this.#sql('INSERT INTO version_sources VALUES (?,?)');
    for (const { id, digest, createdAt, spec, batching, removedAt } of one.versions) {
      const light = JSON.stringify({ ...spec, source: [] });
      add.run(id, one.id, digest, createdAt, light, JSON.stringify(batching), removedAt);
      addSource.run(id, JSON.stringify(spec.source));
    }
  }

  /** Ids stay: lanes and calls name them. */
  addKeys({ keys, nextKeyId }: TransferHead): void {
    const add = this.#sql('INSERT INTO keys VALUES (?,?,?,?,?,?)');
    for (const { id, name, scopes, prefix, secretHash, createdAt } of keys)
      add.run(id, name, JSON.stringify(scopes), prefix, secretHash, createdAt);
    this.#sql("DELETE FROM sqlite_sequence WHERE name = 'keys'").run();
    this.#sql("INSERT INTO sqlite_sequence VALUES ('keys', ?)").run(nextKeyId - 1);
  }

  addOutput({ old, versionId, bytes }: ArrivingOutput): void {
    const isInline = bytes.byteLength <= INLINE_BYTES_MAX;
    const ref = isInline ? null : this.#ledger.segments.append(bytes, Date.now());
    const id = this.#take('batch');
    this.#addRecord(id, versionId, SETTLED.wholly, null, null, ref, isInline ? unshared(bytes) : null);
    this.#sql('INSERT INTO arriving_output VALUES (?,?)').run(old, id);
  }

  addCall(call: TransferCall, tag: string): void {
    const id = this.#take('call');
    const parts = this.#addParts(call, id);
    if (isLive(call)) this.#addLive(call, id);
    else this.#addDone(call, id, parts);
    this.#sql('INSERT INTO former VALUES (?,?,?)').run(tag, call.id, id);
    if (call.idempotency === null) return;
    const { key, bodyDigest } = call.idempotency;
    this.#sql('INSERT INTO idempotency VALUES (?,?,?,?,?)').run(
      call.apiKeyId,
      call.functionId,
      key,
      bodyDigest,
      id,
    );
  }

  /** The batch's slices in this store's ids; it is leased when a worker comes. */
  addBatch(batch: TransferBatch, tag: string): void {
    const slices = batch.slices.flatMap(({ callId, from, count }: Slice) => [
      this.#callId(tag, callId),
      from,
      count,
    ]);
    this.#sql(
      'INSERT INTO batches(id, version, settled, reason, mode, attempts, claims, not_before, handler_ms, slices) VALUES (?,?,0,?,?,?,?,?,?,?)',
    ).run(
      this.#take('batch'),
      batch.versionId,
      REASONS.indexOf(batch.reason),
      MODES.indexOf(batch.mode),
      batch.attempts,
      batch.claims,
      batch.notBefore,
      batch.handlerMs,
      packNumbers(slices),
    );
  }

  /** An id from before, of a call that came from the source `tag`; a call that did not come needs none. */
  addFormer({ former, callId }: MovedId, tag: string): void {
    this.#sql('INSERT OR REPLACE INTO former SELECT ?, ?, call FROM former WHERE tag = ? AND id = ?').run(
      former.tag,
      former.id,
      tag,
      callId,
    );
  }

  /** Gives some batches their outcomes; false when all have them. */
  assemble(): boolean {
    const batches = this.#sql('SELECT DISTINCT batch FROM arriving_part LIMIT ?').all(ASSEMBLED_BATCHES) as {
      batch: number;
    }[];
    const partsOf = this.#sql(
      'SELECT call, first, count, place FROM arriving_part WHERE batch = ? ORDER BY place',
    );
    const isUnfinished = this.#sql('SELECT 1 FROM live WHERE id = ?');
    for (const { batch } of batches) {
      const parts = partsOf.all(batch) as { call: number; first: number; count: number; place: number }[];
      const outcomes = parts.flatMap(({ call, first, count, place }) => [PART.ok, call, first, count, place]);
      const isPartly = parts.some(({ call }) => isUnfinished.get(call) !== undefined);
      this.#sql('UPDATE batches SET settled = ?, outcomes = ? WHERE id = ?').run(
        isPartly ? SETTLED.partly : SETTLED.wholly,
        packNumbers(outcomes),
        batch,
      );
      this.#sql('DELETE FROM arriving_part WHERE batch = ?').run(batch);
    }
    return batches.length === ASSEMBLED_BATCHES;
  }

  /** The call's parts as this store's numbers. What has no output gets a record for its errors. */
  #addParts(call: TransferCall, id: number): number[] {
    const errors: RowError[] = [];
    const numbers: number[] = [];
    const outcomes: number[] = [];
    let record = 0;
    for (const part of call.parts) {
      const { from, count } = part;
      if (part.state === 'ok') {
        const batch = this.#outputId(part.outputId);
        this.#sql('INSERT INTO arriving_part VALUES (?,?,?,?,?)').run(batch, id, from, count, part.outputRow);
        numbers.push(PART.ok, from, count, batch, part.outputRow);
        continue;
      }
      const needsRecord = part.state === 'failed' || isLive(call);
      if (needsRecord && record === 0) record = this.#take('batch');
      const place = placeOf(part, errors);
      if (needsRecord) outcomes.push(PART[part.state], id, from, count, place);
      numbers.push(PART[part.state], from, count, needsRecord ? record : 0, place);
    }
    if (outcomes.length % OUTCOME_WIDTH !== 0 || numbers.length % PART_WIDTH !== 0)
      throw new BugError(`the parts of call ${call.id} are torn`);
    if (record > 0)
      this.#addRecord(
        record,
        call.versionId,
        isLive(call) ? SETTLED.partly : SETTLED.wholly,
        outcomes,
        errors,
        null,
        null,
      );
    return numbers;
  }

  #addRecord(
    id: number,
    versionId: number,
    settled: number,
    outcomes: readonly number[] | null,
    errors: readonly RowError[] | null,
    ref: SegmentRef | null,
    inline: Uint8Array | null,
  ): void {
    this.#ledger.sql.addOutcomes.run(
      id,
      versionId,
      settled,
      0,
      0,
      0,
      0,
      null,
      0,
      outcomes && packNumbers(outcomes),
      errors && errors.length > 0 ? JSON.stringify(errors) : null,
      ref?.segment ?? null,
      ref?.at ?? null,
      ref?.length ?? null,
      inline,
    );
  }

  #addLive(call: TransferCall, id: number): void {
    const { payload, versionId, apiKeyId, rows, bytes, arrivedAt, deadlineAt } = call;
    const stored = payload?.kind === 'json' ? payload.text : payload!.bytes;
    const length = typeof stored === 'string' ? Buffer.byteLength(stored) : stored.byteLength;
    const columns = [
      id,
      versionId,
      apiKeyId,
      rows,
      bytes,
      arrivedAt,
      deadlineAt,
      deadlineAt,
      packExtra(call),
    ] as const;
    if (length <= INLINE_BYTES_MAX) {
      this.#ledger.sql.addLive.run(
        ...columns,
        null,
        null,
        null,
        null,
        typeof stored === 'string' ? stored : unshared(stored),
      );
    } else {
      const text = typeof stored === 'string';
      const ref = this.#ledger.segments.append(text ? Buffer.from(stored) : stored, Date.now());
      this.#ledger.sql.addLive.run(...columns, ref.segment, ref.at, ref.length, text ? 0 : 1, null);
    }
    if (call.startedAt !== null || call.handlerMs > 0)
      this.#sql('INSERT INTO carried VALUES (?,?,?)').run(id, call.startedAt, call.handlerMs);
  }

  #addDone(call: TransferCall, id: number, parts: readonly number[]): void {
    const isSimple = parts.length === PART_WIDTH && parts[0] === PART.ok;
    this.#ledger.sql.addDone.run(
      id,
      call.versionId,
      call.apiKeyId,
      call.rows,
      call.bytes,
      call.arrivedAt,
      call.startedAt,
      call.finishedAt,
      call.deadlineAt,
      call.expiresAt,
      STATUSES.indexOf(call.status),
      call.counts.failed,
      call.counts.cancelled,
      call.counts.expired,
      call.handlerMs,
      packExtra(call),
      isSimple ? parts[3]! : null,
      isSimple ? parts[4]! : null,
      isSimple ? null : packNumbers(parts),
    );
  }

  #outputId(old: number): number {
    const row = this.#sql('SELECT id FROM arriving_output WHERE old = ?').get(old) as
      | { id: number }
      | undefined;
    if (row === undefined)
      throw new BugError(`output ${old} did not come before the call that it belongs to`);
    return row.id;
  }

  #callId(tag: string, old: number): number {
    const row = this.#sql('SELECT call FROM former WHERE tag = ? AND id = ?').get(tag, old) as
      | { call: number }
      | undefined;
    if (row === undefined)
      throw new BugError(`call ${old} did not come before the batch that holds its rows`);
    return row.call;
  }

  #take(kind: 'call' | 'batch'): number {
    this.#next ??= {
      call:
        this.#highest(
          'SELECT max(coalesce((SELECT max(id) FROM live), 0), coalesce((SELECT max(id) FROM done), 0)) AS id',
        ) + 1,
      batch: this.#highest('SELECT coalesce(max(id), 0) AS id FROM batches') + 1,
    };
    const id = this.#next[kind];
    this.#next[kind] += 1;
    return id;
  }

  #highest(text: string): number {
    return (this.#sql(text).get() as { id: number }).id;
  }

  #sql(text: string): StatementSync {
    return this.#ledger.prepare(text);
  }
}

const placeOf = (part: Exclude<TransferPart, { state: 'ok' }>, errors: RowError[]): number => {
  if (part.state !== 'failed') return 0;
  const text = JSON.stringify(part.error);
  const known = errors.findIndex((error) => JSON.stringify(error) === text);
  return known >= 0 ? known : errors.push(part.error) - 1;
};
