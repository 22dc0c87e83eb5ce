/** The rows of a chunk that the server has not refused, where a refused row becomes null with its error. */
import { refusalOf, refusedColumn, refusedRow } from '../../sdk/refused-row.ts';
import { besideColumns, errorTexts, nullRows, selectColumns } from '../../sdk/table.ts';
import { pickedStream, rowsToStream } from '../../shared/arrow/index.ts';

export class OpenChunk {
  readonly #fromRow: number;
  /** What is left to be sent, as an Arrow stream. */
  bytes: Uint8Array;
  /** The rows of the chunk that are left. */
  #open: readonly number[];
  /** JSON texts of errors, by row of the chunk. */
  readonly #refused = new Map<number, string>();

  constructor(bytes: Uint8Array, rows: number, fromRow: number) {
    this.bytes = bytes;
    this.#fromRow = fromRow;
    this.#open = Array.from({ length: rows }, (_, row) => row);
  }

  get rowsRefused(): number {
    return this.#refused.size;
  }

  /**
   * Takes out the row that a refusal names; false where it names none. A column that takes no null takes none of its nulls: they
   * go at once.
   */
  refuse(error: unknown): boolean {
    const named = refusedRow(error);
    if (named === null || named >= this.#open.length) return false;
    const nulls = nullRows(this.bytes, refusedColumn(error) ?? '');
    const out = nulls.has(named) ? nulls : new Set([named]);
    const left: number[] = [];
    for (const [at, row] of this.#open.entries()) {
      if (out.has(at)) this.#refused.set(row, JSON.stringify(refusalOf(error, this.#fromRow + row)));
      else left.push(at);
    }
    this.bytes = pickedStream(
      { streams: [this.bytes], runs: left.map((from) => ({ from, count: 1 })) },
      null,
    );
    this.#open = left.map((at) => this.#open[at]!);
    return true;
  }

  /** The result of what was sent, with a null and an error for each row that was refused. */
  whole(result: Uint8Array): Uint8Array {
    if (this.#refused.size === 0) return result;
    const texts = new Map(this.#refused);
    for (const [at, text] of errorTexts(result)) texts.set(this.#open[at]!, text);
    const at = new Map(this.#open.map((row, i) => [row, i]));
    const rows = Array.from({ length: this.#open.length + this.#refused.size }, (_, row) => row);
    const values = pickedStream(
      {
        streams: [selectColumns(result, [{ column: 'result', as: 'result' }])],
        runs: rows.map((row) => ({ from: at.get(row) ?? -1, count: 1 })),
      },
      null,
    );
    const error = { name: 'error', type: 'utf8', nullable: true } as const;
    return besideColumns(
      values,
      rowsToStream({ error: rows.map((row) => texts.get(row) ?? null) }, [error]),
      [],
    );
  }
}
