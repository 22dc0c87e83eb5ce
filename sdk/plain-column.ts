/** Columns without dictionaries and views: what can be joined, and what a function takes. */
import * as arrow from '@uwdata/flechette';

type Column = arrow.Column<unknown>;
type Batch = Column['data'][number];
type AnyType = arrow.DataType & { readonly dictionary?: AnyType; readonly children?: readonly Child[] };
type Child = Omit<arrow.Field, 'type'> & { readonly type: AnyType };

/** The layouts that views stand for, by value. */
const VIEWED = new Map<number, () => arrow.DataType>([
  [arrow.Type.Utf8View, arrow.utf8],
  [arrow.Type.BinaryView, arrow.binary],
]);

const hasViews = ({ typeId, dictionary, children = [] }: AnyType): boolean =>
  VIEWED.has(typeId) ||
  (dictionary !== undefined && hasViews(dictionary)) ||
  children.some(({ type }) => hasViews(type));

const plainType = (type: AnyType): arrow.DataType => {
  if (!hasViews(type)) return type;
  if (type.dictionary !== undefined) return plainType(type.dictionary);
  const children = type.children?.map((child) => ({ ...child, type: plainType(child.type) }));
  return VIEWED.get(type.typeId)?.() ?? ({ ...type, children } as unknown as arrow.DataType);
};

/** Built anew from its values; flechette makes no batch of none, and a column needs as many as its neighbours. */
const rebuilt = (batch: Batch, type: arrow.DataType): Batch => {
  const values = batch.length === 0 ? [null] : Array.from(batch);
  const [built] = arrow.columnFromArray(values, type).data as readonly Batch[];
  return batch.length === 0 ? ({ ...built!, length: 0, nullCount: 0 } as Batch) : built!;
};

/** For writing: its buffers, with those of views in their place. */
const withoutViews = (batch: Batch): Batch => {
  const type = batch.type as AnyType;
  if (!hasViews(type)) return batch;
  if (VIEWED.has(type.typeId) || type.dictionary !== undefined) return rebuilt(batch, plainType(type));
  return { ...batch, type: plainType(type), children: batch.children.map(withoutViews) } as Batch;
};

/** Values in place of dictionary indices and of views: batches with dictionaries of their own can be joined then. */
export const plainColumn = (column: Column): Column => {
  const type = column.type as AnyType;
  const values = type.dictionary && plainType(type.dictionary);
  if (values === undefined && !hasViews(type)) return column;
  const batches = column.data.map((batch) => (values ? rebuilt(batch, values) : withoutViews(batch)));
  return new arrow.Column(batches as never, (values ?? plainType(type)) as never);
};
