/** The rows of a chunk that the server has not refused, where a refused row becomes null with its error. */
import { OpenRows } from '../../sdk/open-rows.ts';
import { besideColumns, errorTexts, nullRows } from '../../sdk/table.ts';
import { openStream, pickedStream, rowsToStream } from '../../shared/arrow/index.ts';

export class OpenChunk {
  readonly #from: number;
  readonly #count: number;
  readonly #open: OpenRows;
  /** What is left to be sent, as an Arrow stream. */
  bytes: Uint8Array;

  constructor(bytes: Uint8Array, rows: number, fromRow: number) {
    this.bytes = bytes;
    this.#from = fromRow;
    this.#count = rows;
    this.#open = OpenRows.run(fromRow, rows);
  }

  get rowsRefused(): number {
    return this.#open.refused.size;
  }

  /** Takes out the row that a refusal names; false where it names none. */
  refuse(error: unknown): boolean {
    const left = this.#open.refuse(error, (column) => {
      const nulls = nullRows(this.bytes, column);
      return (at) => nulls.has(at);
    });
    if (left === null) return false;
    this.bytes = pickedStream(
      { streams: [this.bytes], runs: left.map((from) => ({ from, count: 1 })) },
      null,
    );
    return true;
  }

  /** The result of what was sent, with a null and an error for each row that was refused. */
  whole(result: Uint8Array): Uint8Array {
    if (this.rowsRefused === 0) return result;
    const { rows: open, refused } = this.#open;
    const texts = new Map([...refused].map(([row, error]) => [row, JSON.stringify(error)]));
    for (const [at, text] of errorTexts(result)) texts.set(open[at]!, text);
    const at = new Map(open.map((row, i) => [row, i]));
    const rows = Array.from({ length: this.#count }, (_, i) => this.#from + i);
    const values = pickedStream(
      { streams: [result], runs: rows.map((row) => ({ from: at.get(row) ?? -1, count: 1 })) },
      openStream(result).fields.filter(({ name }) => name === 'result'),
    );
    const error = { name: 'error', type: 'utf8', nullable: true } as const;
    return besideColumns(
      values,
      rowsToStream({ error: rows.map((row) => texts.get(row) ?? null) }, [error]),
      [],
    );
  }
}
