/** Chosen rows of many streams, buffer by buffer: as a stream of their own, or as columns of a table made of many. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { BugError } from '../errors/sluice-error.ts';
import { type ArrayData, type Node, noBytes, nodesOf } from './array-node.ts';
import { type Piece, wholePiece } from './column-join.ts';
import { columnOf, type JoinedColumn, joinedColumns, plainField, structArray } from './joined-stream.ts';
import { NUMBER_ARRAYS, type Numbers } from './number-arrays.ts';
import { type ArrowStream, openStream } from './stream.ts';
import { hasAny } from './type-text.ts';
import { CastError } from './value-cast.ts';

/** Rows [from, from + count) of the rows of some streams together; from -1: so many nulls. Runs ascend. */
export type RowRun = { readonly from: number; readonly count: number };

/** Verified streams in row order, and the rows that are wanted of them. */
export type PickedRows = { readonly streams: readonly Uint8Array[]; readonly runs: readonly RowRun[] };

type Placed = { readonly from: number; readonly array: ArrayData };

function piecesAt(placed: readonly Placed[], runs: readonly RowRun[]): readonly Piece[] {
  const pieces: Piece[] = [];
  let first = 0;
  for (const { from, count } of runs) {
    if (from < 0) {
      pieces.push({ array: null, from: 0, count });
      continue;
    }
    while (first < placed.length - 1 && placed[first + 1]!.from <= from) first += 1;
    for (let [row, i] = [from, first]; row < from + count; i += 1) {
      const part = placed[i];
      if (part === undefined) throw new BugError(`row ${row} is beyond the streams that it is picked from`);
      const end = Math.min(from + count, part.from + part.array.length);
      if (end > row) pieces.push({ array: part.array, from: row - part.from, count: end - row });
      row = Math.max(row, end);
    }
  }
  return pieces;
}

const rowsOf = (runs: readonly RowRun[]): number => runs.reduce((rows, { count }) => rows + count, 0);

/** An array of each record batch. */
function placedArrays(
  streams: readonly ArrowStream[],
  arrayOf: (stream: ArrowStream, batch: ArrowStream['batches'][number]) => ArrayData,
): readonly Placed[] {
  let before = 0;
  return streams.flatMap((stream) => {
    const start = before;
    before += stream.rows;
    return stream.batches.map((batch) => ({ from: start + batch.from, array: arrayOf(stream, batch) }));
  });
}

function columnArrays(streams: readonly ArrowStream[], name: string): readonly Placed[] {
  return placedArrays(streams, (stream, batch) => {
    const at = columnOf(stream, name);
    if (at < 0) throw new CastError(`column "${name}" is missing in a part of the batch`);
    return batch.columns[at]!;
  });
}

/**
 * Rows of streams as one stream of one record batch, with the declared inputs' types (dictionaries as their values), or, where
 * any table is taken, the columns of the first.
 * @throws CastError naming the column that is missing or does not cast
 */
export function pickedStream({ streams, runs }: PickedRows, inputs: readonly FieldJson[] | null): Uint8Array {
  const opened = streams.map(openStream);
  const columns = actualFields(inputs, opened[0]!).map((field) => ({
    field: plainField(field),
    pieces: piecesAt(columnArrays(opened, field.name), runs),
  }));
  return joinedColumns(columns, rowsOf(runs));
}

/** The declared inputs, with what the stream has in place of `any`. */
const actualFields = (inputs: readonly FieldJson[] | null, stream: ArrowStream): readonly FieldJson[] =>
  inputs?.map((input) =>
    hasAny(input.type) ? (stream.fields[columnOf(stream, input.name)] ?? input) : input,
  ) ?? stream.fields;

/** The columns of picked rows: the declared inputs with actual types in place of `any`, or whatever there is. */
export const pickedFields = (
  streams: readonly Uint8Array[],
  inputs: readonly FieldJson[] | null,
): readonly FieldJson[] => actualFields(inputs, openStream(streams[0]!));

/** All columns of the parts as a column of structs, `field`, whose type has them with the types that they are to have. */
export function structColumn(parts: readonly PickedRows[], field: FieldJson): JoinedColumn {
  const pieces = parts.flatMap(({ streams, runs }) => {
    const opened = streams.map(openStream);
    const placed = placedArrays(opened, (stream, { columns, rows }) => {
      const node = structNode(stream);
      return written(structArray(node, columns, rows));
    });
    return piecesAt(placed, runs);
  });
  return { field, pieces };
}

const structNodes = new WeakMap<ArrowStream, Node>();

function structNode(stream: ArrowStream): Node {
  let node = structNodes.get(stream);
  if (node === undefined) {
    const [empty] = nodesOf([{ name: '', type: { struct: [] }, nullable: true }]);
    node = { ...empty!, type: { struct: stream.fields }, children: stream.nodes };
    structNodes.set(stream, node);
  }
  return node;
}

/** The first column of the parts. */
export function valueColumn(parts: readonly PickedRows[], field: FieldJson): JoinedColumn {
  const pieces = parts.flatMap(({ streams, runs }) =>
    piecesAt(
      placedArrays(streams.map(openStream), (_, { columns }) => written(columns[0]!)),
      runs,
    ),
  );
  return { field, pieces };
}

/** The columns of a stream, which are as many, each with the type that it is to have. */
export function valueColumns(bytes: Uint8Array, fields: readonly FieldJson[]): readonly JoinedColumn[] {
  const { batches } = openStream(bytes);
  return fields.map((field, at) => ({
    field,
    pieces: batches.map(({ columns }) => wholePiece(written(columns[at]!))),
  }));
}

const MILLISECONDS: TypeJson = { timestamp: 'ms', tz: null };
const changed = new WeakMap<Node, Node>();

/** date64 as the milliseconds that it is, and keys of maps looked at: what a table writes of them must be so. */
function written(array: ArrayData): ArrayData {
  const { node, children, dictionary } = array;
  if (typeof node.type !== 'string' && 'map' in node.type && children[0]!.children[0]!.nullCount > 0)
    throw new CastError('a key of a map is null');
  const below = children.map(written);
  const chunks = dictionary?.chunks.map(written);
  const isSame =
    node.type !== 'date64' &&
    below.every((child, i) => child === children[i]) &&
    (chunks ?? []).every((chunk, i) => chunk === dictionary!.chunks[i]);
  if (isSame) return array;
  return {
    ...array,
    node: node.type === 'date64' ? inMilliseconds(node) : node,
    children: below,
    dictionary: chunks === undefined ? null : { chunks, length: dictionary!.length },
  };
}

function inMilliseconds(node: Node): Node {
  const known = changed.get(node) ?? { ...node, type: MILLISECONDS };
  changed.set(node, known);
  return known;
}

const plainArray = (field: FieldJson, length: number, parts: Partial<ArrayData>): JoinedColumn => {
  const [node] = nodesOf([field]);
  const array: ArrayData = {
    ...{ node: node!, length, nullCount: 0, validity: null, offsets: null, values: noBytes() },
    ...{ children: [], dictionary: null, ...parts },
  };
  return { field, pieces: [{ array, from: 0, count: length }] };
};

/** A column of numbers of `rows` rows: `write` fills them in. Its type is one of the number types, or a timestamp. */
export function numberColumn(field: FieldJson, rows: number, write: (values: Numbers) => void): JoinedColumn {
  const type = typeof field.type === 'string' ? field.type : 'int64';
  const values = new NUMBER_ARRAYS[type]!(rows);
  write(values);
  return plainArray(field, rows, { values: new Uint8Array(values.buffer) });
}

/** A text, or null, for each run of rows. */
export type TextRun = { readonly text: string | null; readonly count: number };

/** A column of texts that repeat: each is written once, and copied. */
export function textColumn(field: FieldJson, runs: readonly TextRun[]): JoinedColumn {
  const rows = runs.reduce((sum, { count }) => sum + count, 0);
  const texts = runs.map(({ text }) => Buffer.from(text ?? ''));
  const offsets = new Uint32Array(rows + 1);
  const values = new Uint8Array(runs.reduce((sum, { count }, i) => sum + count * texts[i]!.length, 0));
  let [row, at] = [0, 0];
  for (const [i, { count }] of runs.entries()) {
    const { length } = texts[i]!;
    repeatInto(values.subarray(at, at + count * length), texts[i]!);
    for (const end = row + count; row < end; row += 1) {
      at += length;
      offsets[row + 1] = at;
    }
  }
  const nullCount = runs.reduce((sum, { text, count }) => sum + (text === null ? count : 0), 0);
  const validity = nullCount === 0 ? null : validityOf(runs, rows);
  return plainArray(field, rows, { offsets, values, nullCount, validity });
}

/** Doubles what is there until it is full. */
function repeatInto(bytes: Uint8Array, text: Uint8Array): void {
  bytes.set(text.subarray(0, bytes.length));
  for (let filled = text.length; filled > 0 && filled < bytes.length; filled *= 2)
    bytes.copyWithin(filled, 0, Math.min(filled, bytes.length - filled));
}

function validityOf(runs: readonly TextRun[], rows: number): Uint8Array {
  const validity = new Uint8Array((rows + 7) >> 3);
  let row = 0;
  for (const { text, count } of runs) {
    const end = row + count;
    if (text !== null) for (; row < end; row += 1) validity[row >> 3]! |= 1 << (row & 7);
    row = end;
  }
  return validity;
}

/** Columns as one stream of one record batch of `rows` rows. @throws CastError naming the column that does not cast */
export const tableStream = (columns: readonly JoinedColumn[], rows: number): Uint8Array =>
  joinedColumns(columns, rows);
