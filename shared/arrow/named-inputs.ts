/** Which inputs a JSON call says anything of. */
import type { FieldJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import type { JsonBody } from './json-payload.ts';
import { isObject } from './value-check.ts';

/**
 * A model answers nulls as well, so that a column which was forgotten would be answered, and wrongly: one that neither "columns" nor
 * any row names is refused.
 * @throws SluiceError `schema_mismatch` naming the column
 */
export const checkNamed = ({ columns, rows }: JsonBody, inputs: readonly FieldJson[]): void => {
  const named = isObject(columns) ? new Set(Object.keys(columns)) : namesOf(rows, inputs.length);
  const missing = named === null ? undefined : inputs.find(({ name }) => !named.has(name));
  if (missing === undefined) return;
  const { name } = missing;
  throw new SluiceError(
    'schema_mismatch',
    `column "${name}" is missing; the inputs are ${inputs.map((field) => `"${field.name}"`).join(', ')}, and a value that is not known is null`,
    { field: name },
  );
};

/** null: there is no row that could name one. */
const namesOf = (rows: unknown, wanted: number): ReadonlySet<string> | null => {
  if (!Array.isArray(rows) || rows.length === 0) return null;
  const names = new Set<string>();
  for (const row of rows) {
    if (!isObject(row)) return null;
    for (const name of Object.keys(row)) names.add(name);
    if (names.size >= wanted) break;
  }
  return names;
};
