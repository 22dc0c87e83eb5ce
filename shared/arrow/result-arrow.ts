/** A call's outcomes as one Arrow IPC stream: output batches are passed on, nothing is decoded. */
import { type Node, nodesOf } from './array-node.ts';
import {
  BatchSink,
  dictionariesInto,
  type Emitted,
  emptyDictionariesInto,
  joinBytes,
  nullsInto,
  sliceInto,
} from './batch-sink.ts';
import { END_OF_STREAM } from './message-frame.ts';
import type { Output } from './output-check.ts';
import { errorOf, joinParts, type ResultPart } from './result-part.ts';
import { schemaMessage } from './schema-message.ts';
import { openStream } from './stream.ts';
import { type BatchRange, batchRanges } from './stream-slice.ts';
import { buildInto } from './value-builder.ts';

/** A long result goes page by page: the schema once (`start`), the batches of each page, the end once (`end`). */
export type ResultOptions = {
  /** Whether the stream has the column `error`; by default, when a part is not ok. The same on every page. */
  readonly errors?: boolean;
  readonly start?: boolean;
  readonly end?: boolean;
};

/** Buffers smaller than this are joined before they are handed on: a chunk has its price on a socket. */
const JOIN_BYTES_MAX = 64 * 1024;

/**
 * The stream's bytes in chunks: column `result` (null where a row is not ok), and, where there are errors, utf8
 * column `error` with the JSON of the row's error. A part that covers whole record batches passes without a copy.
 */
export function* resultArrow(
  parts: readonly ResultPart[],
  output: Output,
  options: ResultOptions = {},
): Iterable<Uint8Array> {
  const errors = options.errors ?? parts.some((part) => part.state !== 'ok');
  yield* coalesced(pieces(joinParts(parts), output, { ...options, errors }));
}

function* pieces(
  parts: readonly ResultPart[],
  output: Output,
  options: ResultOptions & { readonly errors: boolean },
): Iterable<Uint8Array> {
  const { errors } = options;
  const { nodes, message } = schemaOf(output, errors);
  const result = nodes.slice(0, 1);
  if (options.start !== false) yield message;
  // A later page knows nothing of the dictionaries of the pages before: it sends its own again.
  const emitted: Emitted = new Map();
  for (const part of parts) {
    if (part.state !== 'ok') {
      yield* missingBatches(nodes, part, emitted);
      continue;
    }
    for (const range of batchRanges(openStream(part.output.bytes), part.outputRow, part.count)) {
      const dictionaries: Uint8Array[] = [];
      dictionariesInto(dictionaries, range.batch.columns, result, emitted);
      yield* dictionaries;
      yield* errors ? batchWithErrors(range) : plainBatch(range);
    }
  }
  if (options.end !== false) yield END_OF_STREAM;
}

type Schema = { readonly nodes: readonly Node[]; readonly message: Uint8Array };
const schemas = new WeakMap<Output, Map<boolean, Schema>>();

/** Made once per function: for a result of one row it would cost as much as the row. */
function schemaOf(output: Output, errors: boolean): Schema {
  let both = schemas.get(output);
  if (both === undefined) {
    both = new Map();
    schemas.set(output, both);
  }
  let schema = both.get(errors);
  if (schema === undefined) {
    const nodes = nodesOf([
      { name: 'result', type: output.type, nullable: output.nullable || errors },
      ...(errors ? [{ name: 'error', type: 'utf8', nullable: true }] : []),
    ]);
    schema = { nodes, message: schemaMessage(nodes) };
    both.set(errors, schema);
  }
  return schema;
}

function plainBatch({ batch, first, count }: BatchRange): readonly Uint8Array[] {
  if (count === batch.rows) return [batch.message];
  const sink = new BatchSink();
  sliceInto(sink, batch.columns[0]!, first, count);
  return sink.batch(count);
}

/** With a second column the metadata is new; the buffers of whole batches still go uncopied. */
function batchWithErrors({ batch, first, count }: BatchRange): readonly Uint8Array[] {
  const sink = new BatchSink();
  sliceInto(sink, batch.columns[0]!, first, count);
  nullsInto(sink, ERROR_NODE, count);
  return sink.batch(count);
}

const ERROR_NODE: Node = nodesOf([{ name: 'error', type: 'utf8', nullable: true }])[0]!;

/** Memory for one batch of nulls at most, since nulls of wide types and long errors take as much as values. */
const NULLS_BYTES_MAX = 4 * 1024 * 1024;

function nullBytes({ layout, children }: Node): number {
  const below = children.reduce((sum, child) => sum + nullBytes(child), 0);
  if (layout.kind === 'fixed_list') return 1 + layout.width * below;
  return 1 + layout.width + (layout.kind === 'struct' ? below : 0);
}

/** Rows without an answer, in as many batches as their size takes. */
function* missingBatches(
  nodes: readonly Node[],
  part: Exclude<ResultPart, { state: 'ok' }>,
  emitted: Emitted,
): Iterable<Uint8Array> {
  const dictionaries: Uint8Array[] = [];
  emptyDictionariesInto(dictionaries, nodes, emitted);
  yield* dictionaries;
  const text = JSON.stringify(errorOf(part));
  const rowsMax = Math.max(1, Math.floor(NULLS_BYTES_MAX / (nullBytes(nodes[0]!) + text.length)));
  for (let done = 0; done < part.count; done += rowsMax) {
    const rows = Math.min(rowsMax, part.count - done);
    const sink = new BatchSink();
    nullsInto(sink, nodes[0]!, rows);
    if (nodes.length > 1) buildInto(sink, nodes[1]!, new Array<string>(rows).fill(text), []);
    yield* sink.batch(rows);
  }
}

function* coalesced(chunks: Iterable<Uint8Array>): Iterable<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    if (chunk.length >= JOIN_BYTES_MAX) {
      if (bytes > 0) yield joinBytes(waiting);
      yield chunk;
      [waiting, bytes] = [[], 0];
      continue;
    }
    waiting.push(chunk);
    bytes += chunk.length;
    if (bytes < JOIN_BYTES_MAX) continue;
    yield joinBytes(waiting);
    [waiting, bytes] = [[], 0];
  }
  if (bytes > 0) yield joinBytes(waiting);
}
