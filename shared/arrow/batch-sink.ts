/** Collects the buffers of record batches and frames them; slices arrays by their buffers, one copy each at most. */
import {
  type ArrayData,
  countZeros,
  type Dictionary,
  type Node,
  noBytes,
  offsetAt,
  shiftBits,
} from './array-node.ts';
import { batchMessage, dictionaryMessage } from './message-frame.ts';

const PADDING: readonly Uint8Array[] = Array.from({ length: 8 }, (_, i) => new Uint8Array(i));

/** The nodes, regions and buffers of one batch in the order of the format. */
export class BatchSink {
  readonly nodes: number[] = [];
  readonly regions: number[] = [];
  readonly chunks: Uint8Array[] = [];
  bodyBytes = 0;

  node(length: number, nullCount: number): void {
    this.nodes.push(length, nullCount);
  }

  buffer(bytes: Uint8Array): void {
    this.regions.push(this.bodyBytes, bytes.length);
    if (bytes.length === 0) return;
    this.chunks.push(bytes);
    const padding = -bytes.length & 7;
    if (padding > 0) this.chunks.push(PADDING[padding]!);
    this.bodyBytes += bytes.length + padding;
  }

  /** The record batch message: metadata, then the buffers uncopied. */
  batch(rows: number): Uint8Array[] {
    return [batchMessage({ rows, ...this }), ...this.chunks];
  }

  dictionary(rows: number, id: number, isDelta: boolean): Uint8Array[] {
    return [dictionaryMessage({ rows, ...this }, id, isDelta), ...this.chunks];
  }
}

/** Rows [from, from + count) of `array`. */
export function sliceInto(sink: BatchSink, array: ArrayData, from: number, count: number): void {
  const { node, validity, values, children } = array;
  const { kind, width } = node.layout;
  if (kind === 'null') {
    sink.node(count, count);
    return;
  }
  const nulls = validity === null ? 0 : countZeros(validity, from, count);
  sink.node(count, nulls);
  sink.buffer(nulls === 0 ? noBytes() : shiftBits(validity!, from, count));
  if (kind === 'bool') sink.buffer(shiftBits(values, from, count));
  else if (kind === 'fixed') sink.buffer(values.subarray(from * width, (from + count) * width));
  else if (kind === 'struct') for (const child of children) sliceInto(sink, child, from, count);
  else if (kind === 'fixed_list') sliceInto(sink, children[0]!, from * width, count * width);
  else {
    const [start, end] = [offsetAt(array, from), offsetAt(array, from + count)];
    sink.buffer(rebasedOffsets(array, from, count, start));
    if (kind === 'bytes') sink.buffer(values.subarray(start, end));
    else sliceInto(sink, children[0]!, start, end - start);
  }
}

function rebasedOffsets(array: ArrayData, from: number, count: number, start: number): Uint8Array {
  const words = array.node.layout.width / 4;
  const part = array.offsets!.subarray(from * words, (from + count + 1) * words);
  if (start === 0) return new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
  const out = new Uint32Array(part.length);
  if (words === 1) for (let i = 0; i < part.length; i++) out[i] = part[i]! - start;
  else
    for (let i = 0; i <= count; i++) {
      const offset = offsetAt(array, from + i) - start;
      out[i * 2] = offset;
      out[i * 2 + 1] = Math.floor(offset / 4294967296);
    }
  return new Uint8Array(out.buffer);
}

/** `count` nulls of any type. */
export function nullsInto(sink: BatchSink, node: Node, count: number): void {
  const { kind, width } = node.layout;
  sink.node(count, count);
  if (kind === 'null') return;
  sink.buffer(new Uint8Array((count + 7) >> 3));
  if (kind === 'bool') sink.buffer(new Uint8Array((count + 7) >> 3));
  else if (kind === 'fixed') sink.buffer(new Uint8Array(count * width));
  else if (kind === 'bytes' || kind === 'list') sink.buffer(new Uint8Array((count + 1) * width));
  if (kind === 'bytes') sink.buffer(noBytes());
  const below = kind === 'fixed_list' ? count * width : kind === 'struct' ? count : 0;
  for (const child of node.children) nullsInto(sink, child, below);
}

/** Which dictionary a reader of the stream has under which id. */
export type Emitted = Map<number, Dictionary>;

/**
 * The dictionary messages that a reader needs before a batch with these arrays, under the ids of `nodes`: none where
 * it has them, deltas where they only grew, else the whole dictionary (which replaces the one before).
 */
export function dictionariesInto(
  out: Uint8Array[],
  arrays: readonly ArrayData[],
  nodes: readonly Node[],
  emitted: Emitted,
): void {
  for (const [i, array] of arrays.entries()) {
    const node = nodes[i]!;
    if (node.dictionary === null) {
      dictionariesInto(out, array.children, node.children, emitted);
      continue;
    }
    const { id, values } = node.dictionary;
    const dictionary = array.dictionary!;
    const before = emitted.get(id);
    if (before === dictionary) continue;
    const grows = before?.chunks.every((chunk, k) => chunk === dictionary.chunks[k]);
    const first = grows === true ? before!.chunks.length : 0;
    for (const [k, chunk] of dictionary.chunks.entries()) {
      if (k < first) continue;
      dictionariesInto(out, [chunk], [values], emitted);
      const sink = new BatchSink();
      sliceInto(sink, chunk, 0, chunk.length);
      out.push(...sink.dictionary(chunk.length, id, k > 0));
    }
    if (dictionary.chunks.length === 0 && before === undefined) emptyDictionaryInto(out, node);
    emitted.set(id, dictionary);
  }
}

const NO_DICTIONARY: Dictionary = { chunks: [], length: 0 };

/** Readers want a dictionary before a batch of nulls as well. */
export function emptyDictionariesInto(out: Uint8Array[], nodes: readonly Node[], emitted: Emitted): void {
  for (const node of nodes) {
    if (node.dictionary === null) emptyDictionariesInto(out, node.children, emitted);
    else if (!emitted.has(node.dictionary.id)) {
      emptyDictionaryInto(out, node);
      emitted.set(node.dictionary.id, NO_DICTIONARY);
    }
  }
}

function emptyDictionaryInto(out: Uint8Array[], node: Node): void {
  const { id, values } = node.dictionary!;
  emptyDictionariesInto(out, [values], new Map());
  const sink = new BatchSink();
  nullsInto(sink, values, 0);
  out.push(...sink.dictionary(0, id, false));
}

/** One piece of bytes from many. */
export function joinBytes(chunks: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}
