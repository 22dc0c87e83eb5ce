/** The rows of a chunk that the server has not refused, where a refused row becomes null with its error. */
import { OpenRows } from '../../sdk/open-rows.ts';
import { besideColumns, errorTexts, nullRows } from '../../sdk/table.ts';
import { openStream, pickedStream, readStream, rowsToStream, sliceStream } from '../../shared/arrow/index.ts';

export class OpenChunk {
  /** Where all of them stand in the input. */
  readonly #rows: readonly number[];
  readonly #open: OpenRows;
  /** What is left to be sent, as an Arrow stream. */
  bytes: Uint8Array;

  constructor(bytes: Uint8Array, open: OpenRows) {
    this.bytes = bytes;
    this.#rows = open.rows;
    this.#open = open;
  }

  get rowsRefused(): number {
    return this.#open.refused.size;
  }

  /** Whether what is left goes in two calls, since one would be too large. */
  isCut(error: unknown): boolean {
    return this.#open.isCut(error);
  }

  /** What is left, cut in two. */
  halves(): readonly OpenChunk[] {
    const { rows } = this.#open;
    const middle = rows.length >> 1;
    const stream = readStream(this.bytes);
    return [
      new OpenChunk(sliceStream(stream, 0, middle), new OpenRows(rows.slice(0, middle))),
      new OpenChunk(sliceStream(stream, middle, rows.length - middle), new OpenRows(rows.slice(middle))),
    ];
  }

  /** Takes out the row that a refusal names, or the only one where it is too large; false where it is no row's fault. */
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

  /** The results of what was sent, one behind the other, with a null and an error for each row that was refused. */
  whole(results: readonly Uint8Array[]): Uint8Array {
    if (this.rowsRefused === 0 && results.length === 1) return results[0]!;
    const { rows: open, refused } = this.#open;
    const texts = new Map([...refused].map(([row, error]) => [row, JSON.stringify(error)]));
    let before = 0;
    for (const result of results) {
      for (const [at, text] of errorTexts(result)) texts.set(open[before + at]!, text);
      before += openStream(result).rows;
    }
    const at = new Map(open.map((row, i) => [row, i]));
    const values = pickedStream(
      { streams: results, runs: this.#rows.map((row) => ({ from: at.get(row) ?? -1, count: 1 })) },
      openStream(results[0]!).fields.filter(({ name }) => name === 'result'),
    );
    const error = { name: 'error', type: 'utf8', nullable: true } as const;
    return besideColumns(
      values,
      rowsToStream({ error: this.#rows.map((row) => texts.get(row) ?? null) }, [error]),
      [],
    );
  }
}
