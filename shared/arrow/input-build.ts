/** What a handler gets for a batch: the payloads' rows as IPC streams in row order. */
import type { Payload } from '../domain/call.ts';
import type { FieldJson } from '../domain/function.ts';
import { BugError } from '../errors/sluice-error.ts';
import { type Node, nodesOf } from './array-node.ts';
import { joinBytes } from './batch-sink.ts';
import { END_OF_STREAM } from './message-frame.ts';
import { schemaMessage } from './schema-message.ts';
import { openStream } from './stream.ts';
import { slicePieces } from './stream-slice.ts';
import { batchOf } from './value-builder.ts';

export type InputPart = { readonly payload: Payload; readonly from: number; readonly count: number };

/**
 * One Arrow IPC stream of a batch. A socket takes its pieces as they are: joined, the rows of large calls would be copied
 * once for each batch, and the collector would have as many bytes more to look after.
 */
export class InputStream {
  readonly pieces: readonly Uint8Array[];
  readonly byteLength: number;
  #bytes: Uint8Array | null = null;

  constructor(pieces: readonly Uint8Array[]) {
    this.pieces = pieces;
    this.byteLength = pieces.reduce((bytes, piece) => bytes + piece.byteLength, 0);
  }

  /** In one piece, which is made once. */
  get bytes(): Uint8Array {
    this.#bytes ??= this.pieces.length === 1 ? this.pieces[0]! : joinBytes(this.pieces);
    return this.#bytes;
  }
}

type Prepared = { readonly nodes: readonly Node[]; readonly schema: Uint8Array };
const prepared = new WeakMap<readonly FieldJson[], Prepared>();

function prepare(inputs: readonly FieldJson[]): Prepared {
  let found = prepared.get(inputs);
  if (found === undefined) {
    const nodes = nodesOf(inputs);
    found = { nodes, schema: schemaMessage(nodes) };
    prepared.set(inputs, found);
  }
  return found;
}

/**
 * Streams in row order: adjacent JSON parts become one stream of one batch, whole Arrow payloads pass as they are, parts of them
 * are sliced by buffers. The payloads must be those that `jsonToPayload` made or `readStream` verified.
 */
export function buildInput(parts: readonly InputPart[], inputs: readonly FieldJson[] | null): InputStream[] {
  const streams: InputStream[] = [];
  for (let at = 0; at < parts.length; ) {
    const { payload, from, count } = parts[at]!;
    if (payload.kind === 'arrow') {
      const stream = openStream(payload.bytes);
      const whole = from === 0 && count === stream.rows;
      streams.push(new InputStream(whole ? [payload.bytes] : slicePieces(stream, from, count)));
      at++;
      continue;
    }
    let end = at + 1;
    while (end < parts.length && parts[end]!.payload.kind === 'json') end++;
    if (inputs === null) throw new BugError('a JSON payload for a function that takes any table');
    streams.push(new InputStream([jsonStream(parts.slice(at, end), inputs)]));
    at = end;
  }
  return streams;
}

function jsonStream(parts: readonly InputPart[], inputs: readonly FieldJson[]): Uint8Array {
  const { nodes, schema } = prepare(inputs);
  // One parse for all texts: the parser's set-up costs more than a small text.
  const texts = parts.map(({ payload }) => (payload as { text: string }).text);
  const payloads = JSON.parse(`[${texts.join(',')}]`) as unknown[][][];
  let rows = 0;
  for (const part of parts) rows += part.count;
  const columns = nodes.map((_, i) => {
    const column = new Array<unknown>(rows);
    let at = 0;
    for (let p = 0; p < parts.length; p++) {
      const { from, count } = parts[p]!;
      const values = payloads[p]![i]!;
      for (let row = 0; row < count; row++) column[at++] = values[from + row];
    }
    return column;
  });
  return joinBytes([schema, ...batchOf(nodes, columns, rows), END_OF_STREAM]);
}
