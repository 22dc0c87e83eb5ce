/**
 * Builds a data directory from what another store holds. Each step is one transaction together with the position it
 * reaches, so that a run that was cut off goes on behind what is there. A batch's outcomes arrive call by call and are
 * put together in the end, since a record is written once.
 */
import { BugError } from '../../errors/sluice-error.ts';
import { tagOf } from '../../wire/call-id.ts';
import type {
  MovedId,
  TransferBatch,
  TransferCall,
  TransferCounts,
  TransferDocument,
  TransferHead,
  TransferPosition,
  TransferTarget,
} from '../ports/transfer.ts';
import { type ArrivingMark, refuseTaken, type TransferMark } from '../transfer-mark.ts';
import { generationOf, openDatabase } from './database.ts';
import { setLastRevision, takeDocument } from './documents.ts';
import { Ledger } from './ledger.ts';
import { load } from './loading.ts';
import { Segments } from './segments.ts';
import { countEmbedded } from './transfer-counts.ts';
import { CARRIED_TABLE, FORMER_TABLE, hasTable } from './transfer-lineage.ts';
import { readMark, writeMark } from './transfer-mark.ts';
import { type ArrivingOutput, ArrivingRows, STAGING } from './transfer-rows.ts';
import { transferOptions } from './transfer-source.ts';

/** Output bytes that one step holds. */
const OUTPUT_BYTES_MAX = 16 * 2 ** 20;
/** Length at which the log is moved into the database file. */
const LOG_BYTES_MAX = 64 * 2 ** 20;

type Output = (id: number) => Promise<Uint8Array>;

class EmbeddedTarget implements TransferTarget {
  readonly place: string;
  readonly #ledger: Ledger;
  readonly #rows: ArrivingRows;
  #tag = '';

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#rows = new ArrivingRows(ledger);
    this.place = `embedded:${ledger.options.directory}`;
  }

  async arrive(head: TransferHead): Promise<TransferPosition> {
    this.#tag = head.tag;
    const mark = readMark(this.#ledger.db);
    if (mark !== null && 'position' in mark && mark.id === head.id) return mark.position;
    this.#refuseUnlessEmpty(mark, head);
    const position: TransferPosition = { callId: null, batchId: null, isFinished: false };
    this.#commit(() => {
      this.#ledger.db.exec(FORMER_TABLE + CARRIED_TABLE + STAGING);
      for (const one of head.functions) this.#rows.addFunction(one);
      this.#rows.addKeys(head);
      setLastRevision(this.#ledger, head.lastRevision);
      writeMark(this.#ledger.db, { state: 'arriving', id: head.id, from: head.place, position });
    });
    return position;
  }

  #refuseUnlessEmpty(mark: TransferMark | null, head: TransferHead): void {
    const { db } = this.#ledger;
    if (tagOf(generationOf(this.#ledger.db)) === head.tag) {
      refuseTaken(this.place, `gives the same call ids as ${head.place}`);
    }
    const tables = ['functions', 'keys', 'live', 'done', 'batches', 'documents'];
    const taken = tables.filter((table) => db.prepare(`SELECT 1 FROM ${table} LIMIT 1`).get() !== undefined);
    if (mark !== null || taken.length > 0) refuseTaken(this.place, 'is not empty');
  }

  async addCalls(calls: readonly TransferCall[], output: Output): Promise<void> {
    await this.#fetchOutputs(calls, output);
    this.#commit(() => {
      for (const call of calls) this.#rows.addCall(call, this.#tag);
      this.#reach({ callId: calls.at(-1)!.id });
    });
  }

  /** Outputs that these calls name and that are not here yet. */
  async #fetchOutputs(calls: readonly TransferCall[], output: Output): Promise<void> {
    const known = this.#ledger.prepare('SELECT 1 FROM arriving_output WHERE old = ?');
    let held = new Map<number, ArrivingOutput>();
    let heldBytes = 0;
    const keep = (): void => {
      const outputs = held;
      [held, heldBytes] = [new Map(), 0];
      if (outputs.size === 0) return;
      this.#commit(() => {
        for (const one of outputs.values()) this.#rows.addOutput(one);
      });
    };
    for (const { versionId, parts } of calls) {
      for (const part of parts) {
        if (part.state !== 'ok' || held.has(part.outputId) || known.get(part.outputId) !== undefined)
          continue;
        const bytes = await output(part.outputId);
        held.set(part.outputId, { old: part.outputId, versionId, bytes });
        heldBytes += bytes.byteLength;
        if (heldBytes >= OUTPUT_BYTES_MAX) keep();
      }
    }
    keep();
  }

  async addBatches(batches: readonly TransferBatch[]): Promise<void> {
    this.#commit(() => {
      for (const batch of batches) this.#rows.addBatch(batch, this.#tag);
      this.#reach({ batchId: batches.at(-1)!.id });
    });
  }

  async addFormer(ids: readonly MovedId[]): Promise<void> {
    this.#commit(() => {
      for (const id of ids) this.#rows.addFormer(id, this.#tag);
    });
  }

  async addDocuments(documents: readonly TransferDocument[]): Promise<void> {
    this.#commit(() => {
      for (const document of documents) takeDocument(this.#ledger, document);
    });
  }

  async finish(): Promise<TransferCounts> {
    if (hasTable(this.#ledger.db, 'arriving_part')) {
      let isMore = true;
      while (isMore)
        this.#commit(() => {
          isMore = this.#rows.assemble();
        });
      this.#commit(() => this.#ledger.db.exec('DROP TABLE arriving_part; DROP TABLE arriving_output'));
    }
    load(this.#ledger, false);
    return countEmbedded(this.#ledger, 0);
  }

  async open(): Promise<void> {
    const mark = this.#mark();
    const position = { ...mark.position, isFinished: true };
    writeMark(this.#ledger.db, { ...mark, state: 'arrived', position });
  }

  async hasArrived(id: string): Promise<boolean> {
    const mark = readMark(this.#ledger.db);
    return mark?.state === 'arrived' && mark.id === id;
  }

  async close(): Promise<void> {
    this.#ledger.segments.close();
    this.#ledger.db.close();
  }

  #mark(): ArrivingMark {
    const mark = readMark(this.#ledger.db);
    if (mark === null || !('position' in mark))
      throw new BugError('nothing is on its way into this data directory');
    return mark;
  }

  #reach(reached: Partial<TransferPosition>): void {
    const mark = this.#mark();
    writeMark(this.#ledger.db, { ...mark, position: { ...mark.position, ...reached } });
  }

  /** Segments are durable before the rows that refer to them, as in the server. */
  #commit(work: () => void): void {
    const { db, segments } = this.#ledger;
    db.exec('BEGIN');
    try {
      work();
      segments.sync();
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
    if (this.#ledger.disk.logBytes() > LOG_BYTES_MAX) db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }
}

/** @throws SluiceError when the directory is being served or has another format */
export const openEmbeddedTarget = (directory: string): TransferTarget => {
  const db = openDatabase(directory, 'fsync');
  try {
    return new EmbeddedTarget(new Ledger(db, new Segments(directory, true), transferOptions(directory)));
  } catch (error) {
    db.close();
    throw error;
  }
};
