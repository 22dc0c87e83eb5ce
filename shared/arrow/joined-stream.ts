/** Whole columns as one uncompressed IPC stream of one record batch, for readers that take no other. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { type ArrayData, type Node, noBytes, nodesOf } from './array-node.ts';
import { BatchSink, joinBytes } from './batch-sink.ts';
import { joinInto, type Piece, wholePiece } from './column-join.ts';
import { END_OF_STREAM } from './message-frame.ts';
import { schemaMessage } from './schema-message.ts';
import { type ArrowStream, openStream } from './stream.ts';
import { sameType } from './type-text.ts';
import { CastError } from './value-cast.ts';

export type JoinedColumn = { readonly field: FieldJson; readonly pieces: readonly Piece[] };

/**
 * One record batch of `rows` rows. Types are without dictionaries.
 * @throws CastError naming the column whose pieces do not cast
 */
export function joinedColumns(columns: readonly JoinedColumn[], rows: number): Uint8Array {
  const nodes = nodesOf(columns.map(({ field }) => field));
  const sink = new BatchSink();
  columns.forEach(({ field, pieces }, i) => {
    try {
      joinInto(sink, nodes[i]!, pieces);
    } catch (error) {
      throw error instanceof CastError ? new CastError(`column "${field.name}": ${error.message}`) : error;
    }
  });
  return joinBytes([schemaMessage(nodes), ...sink.batch(rows), END_OF_STREAM]);
}

/** A type without dictionaries, which simple readers know nothing of. */
function plainType(type: TypeJson): TypeJson {
  if (typeof type === 'string') return type;
  if ('dictionary' in type) return plainType(type.dictionary);
  if ('list' in type) return { list: plainField(type.list) };
  if ('large_list' in type) return { large_list: plainField(type.large_list) };
  if ('fixed_size_list' in type) return { ...type, fixed_size_list: plainField(type.fixed_size_list) };
  if ('struct' in type) return { struct: type.struct.map(plainField) };
  return 'map' in type ? { map: [plainField(type.map[0]), plainField(type.map[1])] } : type;
}

export const plainField = (field: FieldJson): FieldJson => ({ ...field, type: plainType(field.type) });

export const columnOf = (stream: ArrowStream, name: string): number =>
  stream.fields.findIndex((field) => field.name === name);

const fieldsOf = (inputs: readonly FieldJson[] | null, first: ArrowStream): readonly FieldJson[] =>
  (inputs ?? first.fields).map((input) =>
    plainField(input.type === 'any' ? (first.fields[columnOf(first, input.name)] ?? input) : input),
  );

/** A stream that is what it should be already goes as it came. */
const isJoined = ({ fields, batches }: ArrowStream, wanted: readonly FieldJson[]): boolean =>
  batches.length === 1 &&
  fields.length === wanted.length &&
  fields.every(({ name, type }, i) => name === wanted[i]!.name && sameType(type, wanted[i]!.type));

/**
 * Verified streams in row order as one: the declared inputs in their order and with their types (dictionaries as their values),
 * or, where any table is taken, the columns of the first.
 * @throws CastError naming the column that is missing or does not cast
 */
export function joinedStream(
  streams: readonly Uint8Array[],
  inputs: readonly FieldJson[] | null,
): Uint8Array {
  const opened = streams.map(openStream);
  const fields = fieldsOf(inputs, opened[0]!);
  if (opened.length === 1 && isJoined(opened[0]!, fields)) return opened[0]!.bytes;
  const rows = opened.reduce((sum, stream) => sum + stream.rows, 0);
  const columns = fields.map((field) => ({
    field,
    pieces: opened.flatMap((stream) => piecesOf(stream, field)),
  }));
  return joinedColumns(columns, rows);
}

function piecesOf(stream: ArrowStream, { name }: FieldJson): readonly Piece[] {
  const at = columnOf(stream, name);
  if (at < 0) throw new CastError(`column "${name}" is missing in a part of the batch`);
  return stream.batches.map((batch) => wholePiece(batch.columns[at] as ArrayData));
}

/**
 * Columns of a verified stream as a stream of the one column `field`: a single one as it is, several (or one, `asStruct`) as
 * the members of a struct.
 * @throws CastError where a value does not cast to the field's type
 */
export function columnStream(
  stream: ArrowStream,
  columns: readonly number[],
  field: FieldJson,
  asStruct: boolean,
): Uint8Array {
  const node = asStruct
    ? nodesOf([{ ...field, type: { struct: columns.map((at) => stream.fields[at]!) } }])[0]!
    : null;
  const pieces = stream.batches.map((batch): Piece => {
    const children = columns.map((at) => batch.columns[at]!);
    return wholePiece(node === null ? children[0]! : structArray(node, children, batch.rows));
  });
  return joinedColumns([{ field: plainField(field), pieces }], stream.rows);
}

export const structArray = (node: Node, children: readonly ArrayData[], length: number): ArrayData => ({
  node,
  length,
  nullCount: 0,
  validity: null,
  offsets: null,
  values: noBytes(),
  children,
  dictionary: null,
});
