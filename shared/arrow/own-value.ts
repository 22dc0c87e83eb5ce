/** A member of its own: rows have any keys, also those that every object inherits (`constructor`). */
export const ownValue = (row: Readonly<Record<string, unknown>>, name: string): unknown =>
  Object.hasOwn(row, name) ? row[name] : undefined;
