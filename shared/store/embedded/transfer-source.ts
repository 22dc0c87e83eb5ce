/** Reads a data directory out, as a server that starts would see it: what was leased is sealed, what waited waits. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Payload, RowError } from '../../domain/call.ts';
import type { Batching, FunctionSpec, SourceFile } from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { tagOf } from '../../wire/call-id.ts';
import { parseExtra } from '../extra.ts';
import type { EmbeddedOptions } from '../ports/server.ts';
import type {
  FormerId,
  IdSpan,
  MovedId,
  TransferBatch,
  TransferCall,
  TransferDocument,
  TransferFunction,
  TransferKey,
  TransferPart,
  TransferSource,
  TransferVersion,
} from '../ports/transfer.ts';
import { leavingTo } from '../transfer-mark.ts';
import { generationOf, openDatabase } from './database.ts';
import { lastRevision, wholeDocument } from './documents.ts';
import { joinParts } from './ending.ts';
import { listKeys } from './keys.ts';
import { Ledger } from './ledger.ts';
import { type FunctionRow, load } from './loading.ts';
import { type LiveCall, MODES, PART, PART_STATES, PART_WIDTH, REASONS } from './model.ts';
import { unpackSlices } from './packers.ts';
import { readOutput, readPayload } from './payloads.ts';
import { Segments } from './segments.ts';
import { countEmbedded } from './transfer-counts.ts';
import { hasTable } from './transfer-lineage.ts';
import { readMark, writeMark } from './transfer-mark.ts';
import { type DoneRow, partsOfDone, call as viewOf } from './views.ts';

/** Calls that one statement reads. */
const PAGE_CALLS = 500;

/** Nothing is admitted here, and nothing swept: limits and retention are for servers. */
export const transferOptions = (directory: string): EmbeddedOptions => ({
  directory,
  durability: 'fsync',
  limitBytes: Number.MAX_SAFE_INTEGER,
  reserveBytes: 0,
  queueRowsMax: Number.MAX_SAFE_INTEGER,
  queueBytesMax: Number.MAX_SAFE_INTEGER,
  retentionMs: Number.MAX_SAFE_INTEGER,
  acknowledgedRetentionMs: 0,
});

type VersionRow = {
  id: number;
  function: number;
  digest: string;
  created: number;
  spec: string;
  batching: string;
  removed: number | null;
  source: string;
};

const toVersion = (row: VersionRow): TransferVersion => ({
  id: row.id,
  digest: row.digest,
  createdAt: row.created,
  spec: { ...(JSON.parse(row.spec) as FunctionSpec), source: JSON.parse(row.source) as SourceFile[] },
  batching: JSON.parse(row.batching) as Batching,
  removedAt: row.removed,
});

const functionsOf = ({ db }: Ledger): TransferFunction[] => {
  const versions = db.prepare(
    'SELECT * FROM versions JOIN version_sources ON version = id WHERE function = ? ORDER BY id',
  );
  return (db.prepare('SELECT * FROM functions ORDER BY id').all() as FunctionRow[]).map((row) => ({
    id: row.id,
    name: row.name,
    currentVersionId: row.current,
    staged: row.staged === null ? null : { versionId: row.staged, isNew: row.staged_new === 1 },
    scaling: row.scaling === null ? null : (JSON.parse(row.scaling) as Scaling),
    paused: row.paused === 1,
    createdAt: row.created,
    updatedAt: row.updated,
    removedAt: row.removed,
    versions: (versions.all(row.id) as VersionRow[]).map(toVersion),
  }));
};

const keysOf = (ledger: Ledger): TransferKey[] =>
  listKeys(ledger).map((key) => {
    const { hash } = ledger.prepare('SELECT hash FROM keys WHERE id = ?').get(key.id) as { hash: string };
    return { ...key, secretHash: hash };
  });

const nextKeyId = ({ db }: Ledger): number => {
  const row = db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'keys'").get() as
    | { seq: number }
    | undefined;
  return (row?.seq ?? 0) + 1;
};

const spanOf = ({ db }: Ledger, tables: readonly string[]): IdSpan => {
  const spans = tables.flatMap((table) => {
    const span = db.prepare(`SELECT min(id) AS first, max(id) AS last FROM ${table}`).get() as {
      first: number | null;
      last: number;
    };
    return span.first === null ? [] : [{ first: span.first, last: span.last }];
  });
  if (spans.length === 0) return { first: 1, last: 0 };
  return {
    first: Math.min(...spans.map(({ first }) => first)),
    last: Math.max(...spans.map(({ last }) => last)),
  };
};

class EmbeddedSource implements TransferSource {
  readonly place: string;
  readonly #ledger: Ledger;
  #begunAt = 0;
  #errors: { readonly batch: number; readonly list: readonly RowError[] } | null = null;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.place = `embedded:${ledger.options.directory}`;
  }

  async begin({ now, to }: { readonly now: number; readonly to: string }) {
    const { db } = this.#ledger;
    const mark = leavingTo(readMark(db), this.place, to) ?? {
      state: 'leaving',
      id: randomUUID(),
      to,
      begunAt: now,
    };
    if (mark.state === 'left') return null;
    writeMark(db, mark);
    this.#begunAt = mark.begunAt;
    return {
      id: mark.id,
      tag: tagOf(generationOf(this.#ledger.db)),
      place: this.place,
      functions: functionsOf(this.#ledger),
      keys: keysOf(this.#ledger),
      nextKeyId: nextKeyId(this.#ledger),
      lastRevision: lastRevision(this.#ledger),
      callIds: spanOf(this.#ledger, ['live', 'done']),
      batchIds: spanOf(this.#ledger, ['batches']),
    };
  }

  async *calls(after: number | null): AsyncGenerator<TransferCall> {
    const page = this.#ledger.prepare(
      `SELECT id FROM (SELECT id FROM live WHERE id > ?1 UNION ALL SELECT id FROM done WHERE id > ?1 AND expires > ?2) ORDER BY id LIMIT ${PAGE_CALLS}`,
    );
    for (let last = after ?? 0; ; ) {
      const ids = page.all(last, this.#begunAt) as { id: number }[];
      for (const { id } of ids) yield this.#call(id);
      if (ids.length < PAGE_CALLS) return;
      last = ids.at(-1)!.id;
    }
  }

  #call(id: number): TransferCall {
    const ledger = this.#ledger;
    const live = ledger.call(id);
    const done = live === undefined ? (ledger.sql.done.get(id) as DoneRow) : null;
    const view = viewOf(ledger, id);
    if (view === undefined || view === 'gone') throw new Error(`call ${id} went while it was read`);
    const { functionName: _, versionDigest: __, queueMs: ___, ...call } = view;
    const parts = live === undefined ? partsOfDone(done!) : joinParts(live, PART.pending);
    return {
      ...call,
      functionId: this.#functionId(call.versionId),
      schemaKey: parseExtra(live?.extra ?? done?.extra ?? null).schemaKey,
      idempotency: this.#idempotency(id),
      payload: live === undefined ? null : this.#payload(live),
      sealedRows: live?.sealed ?? call.rows,
      parts: this.#parts(parts),
    };
  }

  #functionId(versionId: number): number {
    return this.#ledger.version(versionId).owner.id;
  }

  #payload(call: LiveCall): Payload {
    const stored = readPayload(this.#ledger, call);
    return typeof stored === 'string' ? { kind: 'json', text: stored } : { kind: 'arrow', bytes: stored };
  }

  #idempotency(call: number): TransferCall['idempotency'] {
    const row = this.#ledger.prepare('SELECT name, digest FROM idempotency WHERE call = ?').get(call) as
      | { name: string; digest: string }
      | undefined;
    return row === undefined ? null : { key: row.name, bodyDigest: row.digest };
  }

  #parts(numbers: readonly number[]): TransferPart[] {
    const parts: TransferPart[] = [];
    for (let at = 0; at < numbers.length; at += PART_WIDTH) {
      const [from, count, batch, place] = numbers.slice(at + 1, at + PART_WIDTH) as [
        number,
        number,
        number,
        number,
      ];
      const state = PART_STATES[numbers[at]!]!;
      if (state === 'ok') parts.push({ state, from, count, outputId: batch, outputRow: place });
      else if (state === 'failed') parts.push({ state, from, count, error: this.#error(batch, place) });
      else if (state !== 'pending') parts.push({ state, from, count });
    }
    return parts;
  }

  #error(batch: number, place: number): RowError {
    if (this.#errors?.batch !== batch) {
      const { errors } = this.#ledger.sql.batchErrors.get(batch) as { errors: string };
      this.#errors = { batch, list: JSON.parse(errors) as RowError[] };
    }
    return this.#errors.list[place]!;
  }

  async *batches(after: number | null): AsyncGenerator<TransferBatch> {
    const open = [...this.#ledger.batches.values()].sort((a, b) => a.id - b.id);
    for (const batch of open) {
      if (batch.id <= (after ?? 0)) continue;
      const { id, version, attempts, claims, notBefore, handlerMs } = batch;
      yield {
        id,
        functionId: version.owner.id,
        versionId: version.id,
        slices: unpackSlices(batch.slices),
        reason: REASONS[batch.reason]!,
        mode: MODES[batch.mode]!,
        attempts,
        claims,
        notBefore,
        handlerMs,
      };
    }
  }

  async output(id: number): Promise<Uint8Array> {
    return readOutput(this.#ledger, id);
  }

  async *documents(): AsyncGenerator<TransferDocument> {
    const next = this.#ledger.prepare(
      'SELECT kind, key, revision FROM documents WHERE (kind, key) > (?, ?) ORDER BY kind, key LIMIT 1',
    );
    for (let last = { kind: '', key: '' }; ; ) {
      const row = next.get(last.kind, last.key) as Omit<TransferDocument, 'bytes'> | undefined;
      if (row === undefined) return;
      yield { ...row, bytes: wholeDocument(this.#ledger, row) };
      last = row;
    }
  }

  async *former(): AsyncGenerator<MovedId> {
    if (!hasTable(this.#ledger.db, 'former')) return;
    const rows = this.#ledger.db.prepare('SELECT tag, id, call FROM former').iterate();
    for (const { tag, id, call } of rows as Iterable<FormerId & { readonly call: number }>)
      yield { former: { tag, id }, callId: call };
  }

  async counts() {
    return countEmbedded(this.#ledger, this.#begunAt);
  }

  async leave(): Promise<void> {
    const mark = readMark(this.#ledger.db);
    if (mark?.state === 'leaving') writeMark(this.#ledger.db, { ...mark, state: 'left' });
  }

  async abandon(): Promise<boolean> {
    const mark = readMark(this.#ledger.db);
    if (mark?.state !== 'leaving') return false;
    writeMark(this.#ledger.db, null);
    return true;
  }

  async close(): Promise<void> {
    this.#ledger.segments.close();
    this.#ledger.db.close();
  }
}

/** @throws SluiceError when the directory is not there, is being served, or has another format */
export const openEmbeddedSource = (directory: string): TransferSource => {
  if (!existsSync(join(directory, 'sluice.db'))) {
    throw new SluiceError('internal', `There is no data directory ${directory}.`, {
      fix: 'Give the one that the server had as --data.',
    });
  }
  const options = transferOptions(directory);
  const db = openDatabase(directory, 'fsync');
  try {
    const ledger = new Ledger(db, new Segments(directory, true), options);
    load(ledger, true);
    return new EmbeddedSource(ledger);
  } catch (error) {
    db.close();
    throw error;
  }
};
