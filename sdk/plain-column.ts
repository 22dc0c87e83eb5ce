/** Columns without dictionaries and views: what can be joined, and what a function takes. */
import * as arrow from '@uwdata/flechette';
import { isValidAt } from '../shared/arrow/array-node.ts';
import { joinedColumns, joinedStream, openStream, readStream } from '../shared/arrow/index.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import { tableBytes } from './input.ts';

type Column = arrow.Column<unknown>;
type Batch = Column['data'][number];
type AnyType = arrow.DataType & { readonly dictionary?: AnyType; readonly children?: readonly Child[] };
type Child = Omit<arrow.Field, 'type'> & { readonly type: AnyType };
type EncodedBatch = Batch & { readonly dictionary: Column; readonly values: ArrayLike<number | bigint> };
type ViewBatch = Batch & { view(row: number): Uint8Array };

/** The layouts that views stand for, by value. */
const VIEWED = new Map<number, () => arrow.DataType>([
  [arrow.Type.Utf8View, arrow.utf8],
  [arrow.Type.BinaryView, arrow.binary],
]);

const isPlain = ({ typeId, dictionary, children = [] }: AnyType): boolean =>
  !VIEWED.has(typeId) && dictionary === undefined && children.every(({ type }) => isPlain(type));

const plainType = (type: AnyType): arrow.DataType => {
  if (isPlain(type)) return type;
  if (type.dictionary !== undefined) return plainType(type.dictionary);
  const children = type.children?.map((child) => ({ ...child, type: plainType(child.type) }));
  return VIEWED.get(type.typeId)?.() ?? ({ ...type, children } as unknown as arrow.DataType);
};

const hasValue = ({ nullCount, validity }: Batch, row: number): boolean =>
  nullCount === 0 || isValidAt(validity as Uint8Array, row);

/** The bytes of views one after the other; flechette makes no batch of none, and a column needs as many as its neighbours. */
const withoutViews = (batch: ViewBatch): Batch => {
  const values = Array.from({ length: Math.max(1, batch.length) }, (_, row) =>
    row < batch.length && hasValue(batch, row) ? batch.view(row) : null,
  );
  const [built] = arrow.columnFromArray(values, arrow.binary()).data as readonly Batch[];
  return batch.length === 0 ? ({ ...built!, length: 0, nullCount: 0 } as Batch) : built!;
};

/** The dictionary's values as a stream of one batch; the batches of a column share it. */
const valueStreams = new WeakMap<Column, Uint8Array>();

const valueStream = (dictionary: Column): Uint8Array => {
  let bytes = valueStreams.get(dictionary);
  if (bytes === undefined) {
    const plain = tableBytes(arrow.tableFromColumns({ dictionary: plainColumn(dictionary) }));
    readStream(plain);
    bytes = joinedStream([plain], null);
    valueStreams.set(dictionary, bytes);
  }
  return bytes;
};

/** The value of each index, taken by its bytes: as numbers of JavaScript, many types would be rounded. */
const withoutDictionary = (batch: EncodedBatch): Batch => {
  const { dictionary, length, values } = batch;
  const { fields, batches, rows } = openStream(valueStream(dictionary));
  const pieces = Array.from({ length }, (_, row) => {
    if (!hasValue(batch, row)) return { array: null, from: 0, count: 1 };
    const from = Number(values[row]);
    if (from >= 0 && from < rows) return { array: batches[0]!.columns[0]!, from, count: 1 };
    throw new SluiceError('invalid_arrow', `row ${row} has dictionary index ${from} of ${rows} values`);
  });
  const joined = arrow.tableFromIPC(joinedColumns([{ field: fields[0]!, pieces }], length));
  return joined.children[0]!.data[0] as Batch;
};

/** For writing: its buffers, with those of values in the place of dictionary indices and views. */
const plainBatch = (batch: Batch): Batch => {
  const type = batch.type as AnyType;
  if (isPlain(type)) return batch;
  if (type.dictionary !== undefined) return withoutDictionary(batch as EncodedBatch);
  if (VIEWED.has(type.typeId)) return withoutViews(batch as ViewBatch);
  return { ...batch, type: plainType(type), children: batch.children.map(plainBatch) } as Batch;
};

/** Values in place of dictionary indices and of views: batches with dictionaries of their own can be joined then. */
export const plainColumn = (column: Column): Column => {
  const type = column.type as AnyType;
  if (isPlain(type)) return column;
  return new arrow.Column(column.data.map(plainBatch) as never, plainType(type) as never);
};
