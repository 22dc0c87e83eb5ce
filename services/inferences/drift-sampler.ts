/** Takes rows of inference files evenly, column by column, into memory of a fixed size. */
import { openAsBlob } from 'node:fs';
import type { ArrayData } from '../../shared/arrow/array-node.ts';
import { readStream } from '../../shared/arrow/index.ts';
import { categorySide, type DriftSide, orderedSide } from '../../shared/domain/drift.ts';
import { openParquet } from '../../shared/parquet/reader.ts';
import { driftLeaves, type Leaf } from './drift-columns.ts';
import { DRIFT_ROWS_MAX, type TimeRange } from './drift-portions.ts';

/** Each column is two metrics. */
export const DRIFT_COLUMNS_MAX = 200;
/** Of a side; 32 MiB. Fewer rows are taken where there are more than 80 columns. */
const CELLS_MAX = 4 * 2 ** 20;
/** Decoded at once. */
const BATCH_ROWS = 2048;
const CELLS_FIRST = 1024;

class ColumnCells {
  readonly kind: DriftSide['kind'];
  #values = new Float64Array(CELLS_FIRST);
  #length = 0;
  #nulls = 0;

  constructor(kind: DriftSide['kind']) {
    this.kind = kind;
  }

  get rows(): number {
    return this.#length + this.#nulls;
  }

  push(value: number | null): void {
    if (value === null) {
      this.#nulls += 1;
      return;
    }
    if (this.#length === this.#values.length) {
      const wider = new Float64Array(2 * this.#length);
      wider.set(this.#values);
      this.#values = wider;
    }
    this.#values[this.#length] = value;
    this.#length += 1;
  }

  side(): DriftSide {
    const values = this.#values.subarray(0, this.#length);
    return this.kind === 'ordered' ? orderedSide(values, this.#nulls) : categorySide(values, this.#nulls);
  }
}

export class DriftSampler {
  readonly #range: TimeRange;
  /** By name, then by kind: a column may be of another type in files of another version. */
  readonly #columns = new Map<string, Map<DriftSide['kind'], ColumnCells>>();
  #rows = 0;
  /** A row is taken whenever it reaches one. Small files, of less than a row each, add up. */
  #credit = 0.5;
  #share: number | null = null;

  constructor(range: TimeRange) {
    this.#range = range;
  }

  get rows(): number {
    return this.#rows;
  }

  /** The columns by name, each of the kind that most of its rows are of. */
  sides(): ReadonlyMap<string, DriftSide> {
    const commonest = (kinds: ReadonlyMap<unknown, ColumnCells>): ColumnCells =>
      [...kinds.values()].reduce((most, cells) => (cells.rows > most.rows ? cells : most));
    return new Map([...this.#columns].map(([name, kinds]) => [name, commonest(kinds).side()]));
  }

  /** Adds rows of one file. What of it was read before it failed stays. @throws ParquetError */
  async add(file: string, rate: number): Promise<void> {
    const parquet = await openParquet(await openAsBlob(file));
    try {
      const columns = readStream(parquet.schema)
        .fields.map(({ name }) => name)
        .filter((name) => ['time', 'input', 'output'].includes(name));
      for await (const { stream } of parquet.batches({ columns, batchRows: BATCH_ROWS }))
        for (const { rows, columns: arrays } of readStream(stream).batches) this.#take(arrays, rows, rate);
    } finally {
      parquet.close();
    }
  }

  #take(arrays: readonly ArrayData[], rows: number, rate: number): void {
    const leaves = driftLeaves(arrays);
    this.#share ??= Math.min(1, CELLS_MAX / (Math.min(leaves.length, DRIFT_COLUMNS_MAX) * DRIFT_ROWS_MAX));
    const picked = this.#picked(arrays, rows, rate * this.#share);
    this.#rows += picked.length;
    for (const leaf of leaves) {
      const cells = this.#cellsOf(leaf);
      if (cells !== null) for (const row of picked) cells.push(leaf.read(row));
    }
  }

  #picked(arrays: readonly ArrayData[], rows: number, rate: number): readonly number[] {
    const time = arrays.find(({ node }) => node.name === 'time');
    if (time === undefined) return [];
    const { buffer, byteOffset, byteLength } = time.values;
    const times = new DataView(buffer, byteOffset, byteLength);
    const picked: number[] = [];
    for (let row = 0; row < rows; row += 1) {
      const at = Number(times.getBigInt64(row * 8, true));
      if (at < this.#range.from || at >= this.#range.until) continue;
      this.#credit += rate;
      if (this.#credit < 1) continue;
      this.#credit -= 1;
      picked.push(row);
    }
    return picked;
  }

  /** null: there are as many columns as there may be. */
  #cellsOf({ name, kind }: Leaf): ColumnCells | null {
    let kinds = this.#columns.get(name);
    if (kinds === undefined) {
      if (this.#columns.size === DRIFT_COLUMNS_MAX) return null;
      kinds = new Map();
      this.#columns.set(name, kinds);
    }
    let cells = kinds.get(kind);
    if (cells === undefined) {
      cells = new ColumnCells(kind);
      kinds.set(kind, cells);
    }
    return cells;
  }
}
