/** Values of text files as Arrow streams of their columns' types. */

import { settled } from '../../shared/arrow/exact-values.ts';
import { rowsToStream } from '../../shared/arrow/index.ts';
import { checkOf, explain } from '../../shared/arrow/value-check.ts';
import type { FieldJson } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { CommandError } from '../failure.ts';

/**
 * One column for each field. `place` says where a row of these stands in the file.
 * @throws CommandError naming the place of the first value that its column does not take
 */
export const typedStream = async (
  columns: readonly (readonly unknown[])[],
  fields: readonly FieldJson[],
  place: (row: number) => Promise<string>,
): Promise<Uint8Array> => {
  try {
    return rowsToStream(Object.fromEntries(fields.map(({ name }, i) => [name, columns[i]!])), fields);
  } catch (error) {
    const [first] = fields
      .map((field, i) => ({ field, column: columns[i]!, row: columns[i]!.findIndex(misfits(field)) }))
      .filter(({ row }) => row >= 0)
      .sort((a, b) => a.row - b.row);
    if (!(error instanceof SluiceError) || first === undefined) throw error;
    const { field, column, row } = first;
    throw new CommandError(
      `${await place(row)}: column "${field.name}" ${explain(field, column[row])}; correct the line, or leave the column out with --keep or --column.`,
    );
  }
};

const misfits = (field: FieldJson): ((value: unknown) => boolean) => {
  const check = checkOf(field);
  return (value) => !check(value) && !check(settled(field.type, value));
};
