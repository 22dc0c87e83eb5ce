/** Columns of Arrow streams taken apart and put together by their buffers; values are touched in dictionaries and views only. */
import * as arrow from '@uwdata/flechette';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import { tableBytes } from './input.ts';
import { plainColumn } from './plain-column.ts';

export type Compression = {
  readonly lz4: (bytes: Uint8Array) => Uint8Array;
  readonly zstd: (bytes: Uint8Array) => Uint8Array;
};

/** How compressed record batches are read. Nothing is written compressed. */
export const setDecompression = ({ lz4, zstd }: Compression): void => {
  const refuse = (): never => {
    throw new SluiceError('internal', 'Arrow streams are written without compression.');
  };
  arrow.setCompressionCodec(arrow.CompressionType.LZ4_FRAME, { encode: refuse, decode: lz4 });
  arrow.setCompressionCodec(arrow.CompressionType.ZSTD, { encode: refuse, decode: zstd });
};

export type Selection = { readonly column: string; readonly as: string };

/** The columns by name, renamed, plain and uncompressed, as a stream. Every field may be null afterwards. */
export const selectColumns = (bytes: Uint8Array, selection: readonly Selection[]): Uint8Array => {
  const table = arrow.tableFromIPC(bytes, { useBigInt: true, useDecimalInt: true });
  const picked = selection.map(({ column, as }) => {
    const at = table.schema.fields.findIndex(({ name }) => name === column);
    if (at < 0)
      throw new SluiceError('invalid_request', `There is no column "${column}".`, { field: column });
    return {
      name: as,
      field: table.schema.fields[at]!,
      values: plainColumn(table.children[at] as arrow.Column<unknown>),
    };
  });
  return tableBytes(tableOf(table, picked));
};

type Picked = { readonly name: string; readonly field: arrow.Field; readonly values: arrow.Column<unknown> };

const tableOf = (like: arrow.Table, picked: readonly Picked[]): arrow.Table => {
  const fields = picked.map(({ name, field, values }) => ({
    ...field,
    name,
    type: values.type,
    nullable: true,
  }));
  return new arrow.Table(
    { ...like.schema, fields: fields as never, metadata: null },
    picked.map(({ values }) => values) as never,
  );
};

/**
 * The columns of both streams side by side; they must have the same record batches. `extra`: text columns that are there
 * in any case, null where neither stream has them. The result is plain: a dictionary's values are in place.
 */
export const besideColumns = (
  left: Uint8Array | null,
  right: Uint8Array,
  extra: readonly string[],
): Uint8Array => allBeside(left === null ? [right] : [left, right], extra);

/** The same of any number of streams. */
export const allBeside = (streams: readonly Uint8Array[], extra: readonly string[]): Uint8Array => {
  const tables = streams.map((bytes) => arrow.tableFromIPC(bytes, { useBigInt: true, useDecimalInt: true }));
  const picked = tables.flatMap((table) =>
    table.schema.fields.map((field, i) => ({
      name: field.name,
      field,
      values: plainColumn(table.children[i] as arrow.Column<unknown>),
    })),
  );
  const lengths = picked[0]?.values.data.map(({ length }) => length) ?? [];
  for (const name of extra) {
    if (picked.some((column) => column.name === name)) continue;
    picked.push({ name, field: arrow.field(name, arrow.utf8()), values: nullColumn(lengths) });
  }
  return tableBytes(tableOf(tables[0]!, picked));
};

const nullColumn = (lengths: readonly number[]): arrow.Column<unknown> => {
  const batches = lengths.flatMap((length) => [
    ...(arrow.columnFromArray(new Array(length).fill(null), arrow.utf8()) as arrow.Column<unknown>).data,
  ]);
  return new arrow.Column(batches as never, arrow.utf8() as never) as arrow.Column<unknown>;
};

/** The error texts of a result by row; empty when every row is ok. */
export const errorTexts = (bytes: Uint8Array): Map<number, string> => {
  const column = arrow.tableFromIPC(bytes).getChild('error');
  const texts = new Map<number, string>();
  if (column)
    [...column].forEach((text, row) => {
      if (text !== null) texts.set(row, String(text));
    });
  return texts;
};

/** The rows that are null in a column; none where there is no such column. */
export const nullRows = (bytes: Uint8Array, name: string): ReadonlySet<number> => {
  const column = arrow.tableFromIPC(bytes).getChild(name);
  const rows = new Set<number>();
  for (let row = 0; row < (column?.length ?? 0); row++) if (column?.at(row) === null) rows.add(row);
  return rows;
};
