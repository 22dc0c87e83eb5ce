/** What is left of a chunk when the server has refused some of its rows. */
import type { RowErrorJson } from '../shared/wire/api.ts';
import { isTooLarge, refusalOf, refusedColumn, refusedRow } from './refused-row.ts';

/** Of a column of what was sent: whether a row, counted from 0, is null in it. */
export type NullsOf = (column: string) => (at: number) => boolean;

/** Rows that the server has not refused, by their places in the whole, and why it refused the others. */
export class OpenRows {
  readonly refused = new Map<number, RowErrorJson>();
  rows: readonly number[];

  constructor(rows: readonly number[]) {
    this.rows = rows;
  }

  static run(from: number, count: number): OpenRows {
    return new OpenRows(Array.from({ length: count }, (_, i) => from + i));
  }

  /**
   * Takes out the row that a refusal names, or the only one where it is too large. A column that takes no null takes none of its nulls: they go at once.
   * @returns which of the rows that were sent are left; null: the error names no row of them
   */
  refuse(error: unknown, nullsOf: NullsOf): readonly number[] | null {
    const named = isTooLarge(error) && this.rows.length === 1 ? 0 : refusedRow(error);
    if (named === null || named >= this.rows.length) return null;
    const column = refusedColumn(error);
    const isNull = column === null ? null : nullsOf(column);
    const isOut = isNull?.(named) ? isNull : (at: number): boolean => at === named;
    const left: number[] = [];
    for (const [at, row] of this.rows.entries()) {
      if (isOut(at)) this.refused.set(row, refusalOf(error, row));
      else left.push(at);
    }
    this.rows = left.map((at) => this.rows[at]!);
    return left;
  }

  /** Whether what is left goes in two calls, since one would be too large. */
  isCut(error: unknown): boolean {
    return isTooLarge(error) && this.rows.length > 1;
  }
}
