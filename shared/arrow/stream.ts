/**
 * Arrow IPC streams: verified once, then sliced and passed on as they are. Nothing else reads bytes from outside.
 * Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
 */
import type { FieldJson } from '../domain/function.ts';
import type { ArrayData, Dictionary, Node } from './array-node.ts';
import { ArrayReader } from './array-reader.ts';
import { FlatBuffer, type FlatTable, invalid } from './flat-table.ts';
import {
  MESSAGE_BATCH,
  MESSAGE_DICTIONARY,
  MESSAGE_SCHEMA,
  VERSION_V4,
  VERSION_V5,
} from './message-frame.ts';
import { checkPairs, readSchema, type Schema } from './schema-message.ts';
import { sameType, typeText } from './type-text.ts';

/** Metadata of one message at most: 4096 columns with long names need about 1 MiB. */
const METADATA_BYTES_MAX = 16 * 1024 * 1024;
/** Deltas of one dictionary at most: each is looked through for every value. */
const DELTAS_MAX = 256;
/** Rows are counted in doubles and in 32-bit integers elsewhere. */
const ROWS_MAX = 2 ** 31 - 1;

export type Batch = {
  /** First row in the stream, and rows. */
  readonly from: number;
  readonly rows: number;
  /** The record batch message, metadata and body, as it came. */
  readonly message: Uint8Array;
  readonly columns: readonly ArrayData[];
};

type Metadata = { readonly nodes: readonly number[]; readonly regions: readonly number[] };

/** A verified IPC stream. Never trust bytes that did not pass here. */
export type ArrowStream = {
  readonly bytes: Uint8Array;
  readonly fields: readonly FieldJson[];
  readonly rows: number;
  readonly nodes: readonly Node[];
  /** The schema message as it came, with metadata that `fields` does not show. */
  readonly schemaMessage: Uint8Array;
  readonly batches: readonly Batch[];
};

/**
 * Verifies an IPC stream: framing, flatbuffers, field nodes, buffers, offsets, null counts, UTF-8, dictionary
 * indices. Costs time and memory in proportion to the bytes, whatever they say.
 * @throws SluiceError `invalid_arrow` naming the message, the column and what is wrong there
 */
export function readStream(bytes: Uint8Array): ArrowStream {
  return new StreamReader(bytes, true).read();
}

const opened = new WeakMap<Uint8Array, ArrowStream>();

/**
 * Opens bytes that passed `readStream` before (in this or another thread or process): structure and bounds are read
 * again, values are not. The same bytes object is opened once.
 */
export function openStream(bytes: Uint8Array): ArrowStream {
  let stream = opened.get(bytes);
  if (stream === undefined) {
    stream = new StreamReader(bytes, false).read();
    opened.set(bytes, stream);
  }
  return stream;
}

/** Like `readStream`, once per bytes object; what fails is not remembered. */
export function readStreamOnce(bytes: Uint8Array): ArrowStream {
  const known = verified.get(bytes);
  if (known !== undefined) return known;
  const stream = readStream(bytes);
  verified.set(bytes, stream);
  opened.set(bytes, stream);
  return stream;
}
const verified = new WeakMap<Uint8Array, ArrowStream>();

type Message = {
  readonly kind: number;
  readonly header: FlatTable;
  readonly start: number;
  readonly bodyStart: number;
  readonly bodyBytes: number;
  readonly end: number;
  readonly where: string;
};

class StreamReader {
  readonly #given: Uint8Array;
  /** A plain view: slices of a Buffer are views of it, slices of a Uint8Array are copies. */
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #checkValues: boolean;
  readonly #batches: Batch[] = [];
  readonly #dictionaries = new Map<number, Dictionary>();
  #dictionaryNodes: Map<number, Node> | null = null;
  #schema: Schema | null = null;
  #schemaMessage: Uint8Array = new Uint8Array(0);
  #rows = 0;

  constructor(bytes: Uint8Array, checkValues: boolean) {
    this.#given = bytes;
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#checkValues = checkValues;
  }

  read(): ArrowStream {
    let at = 0;
    for (let index = 0; ; index++) {
      const message = this.#message(at, `message ${index}`);
      if (message === null) break;
      this.#take(message);
      at = message.end;
    }
    if (this.#schema === null) return invalid('the stream has no schema message');
    return {
      bytes: this.#given,
      fields: this.#schema.fields,
      rows: this.#rows,
      nodes: this.#schema.nodes,
      schemaMessage: this.#schemaMessage,
      batches: this.#batches,
    };
  }

  /** The message at `start`; null at the end-of-stream marker or the end of the bytes. */
  #message(start: number, where: string): Message | null {
    const left = this.#bytes.length - start;
    if (left === 0) return null;
    if (left < 8) return invalid(`${where}: the stream is cut off after ${left} of 8 bytes`);
    if (start === 0) this.#refuseOtherFormats();
    const marker = this.#view.getUint32(start, true);
    if (marker !== 0xffffffff)
      return invalid(`${where}: it begins with ${marker}, not with the continuation marker 0xffffffff`);
    const length = this.#view.getInt32(start + 4, true);
    if (length === 0) {
      if (left > 8) invalid(`${where}: ${left - 8} bytes follow the end of the stream`);
      return null;
    }
    if (length < 0 || length > METADATA_BYTES_MAX)
      return invalid(`${where}: its metadata has ${length} bytes; at most ${METADATA_BYTES_MAX} are allowed`);
    const bodyStart = start + 8 + length;
    if (bodyStart > this.#bytes.length)
      return invalid(`${where}: the stream is cut off in its metadata (${left - 8} of ${length} bytes)`);
    const table = new FlatBuffer(this.#bytes.subarray(start + 8, bodyStart), where).root();
    return this.#parse(table, start, bodyStart, where);
  }

  #refuseOtherFormats(): void {
    const text = Buffer.from(this.#bytes.subarray(0, 6)).toString('latin1');
    if (text === 'ARROW1') invalid('this is an Arrow file; send the IPC stream format');
    if (text.startsWith('PAR1')) invalid('this is a Parquet file; send an Arrow IPC stream');
  }

  #parse(table: FlatTable, start: number, bodyStart: number, where: string): Message {
    const version = table.i16(0);
    if (version !== VERSION_V5 && version !== VERSION_V4)
      invalid(`${where}: metadata version V${version + 1} is not supported; V4 and V5 are`);
    const header = table.table(2);
    if (header === null) return invalid(`${where}: it has no header`);
    checkPairs(table, 4);
    const bodyBytes = table.i64(3, 'the body length');
    const end = bodyStart + bodyBytes;
    if (end > this.#bytes.length)
      invalid(
        `${where}: the stream is cut off in its body (${this.#bytes.length - bodyStart} of ${bodyBytes} bytes)`,
      );
    return { kind: table.u8(1), header, start, bodyStart, bodyBytes, end, where };
  }

  #take(message: Message): void {
    const { kind, header, where } = message;
    if (kind === MESSAGE_SCHEMA) {
      if (this.#schema !== null) invalid(`${where}: a second schema`);
      this.#schema = readSchema(header);
      this.#schemaMessage = this.#bytes.subarray(message.start, message.end);
      return;
    }
    if (this.#schema === null) invalid(`${where}: a message of kind ${kind} before the schema`);
    if (kind === MESSAGE_BATCH) this.#takeBatch(message);
    else if (kind === MESSAGE_DICTIONARY) this.#takeDictionary(message);
    else invalid(`${where}: messages of kind ${kind} are not supported`);
  }

  #takeBatch(message: Message): void {
    const rows = message.header.i64(0, 'the row count');
    if (this.#rows + rows > ROWS_MAX) invalid(`${message.where}: more than ${ROWS_MAX} rows`);
    const metadata = this.#metadata(message.header);
    const columns = this.#arrays(message, metadata, this.#schema!.nodes, rows);
    this.#batches.push({
      from: this.#rows,
      rows,
      message: this.#bytes.subarray(message.start, message.end),
      columns,
    });
    this.#rows += rows;
  }

  #takeDictionary(message: Message): void {
    const { header, where } = message;
    const id = header.i64(0, 'the dictionary id');
    const data = header.table(1);
    if (data === null) invalid(`${where}: dictionary ${id} has no data`);
    this.#dictionaryNodes ??= dictionaryNodes(this.#schema!.nodes);
    const node = this.#dictionaryNodes.get(id);
    if (node === undefined) invalid(`${where}: dictionary ${id} belongs to no column`);
    const rows = data.i64(0, 'the row count');
    const chunk = this.#arrays(message, this.#metadata(data), [node], rows)[0]!;
    const isDelta = header.u8(2) !== 0;
    const before = isDelta ? this.#dictionaries.get(id) : undefined;
    if (isDelta && before === undefined)
      invalid(`${where}: a delta of dictionary ${id}, which has not come yet`);
    const chunks = [...(before?.chunks ?? []), chunk];
    if (chunks.length > DELTAS_MAX)
      invalid(`${where}: dictionary ${id} comes in more than ${DELTAS_MAX} deltas; send it whole`);
    this.#dictionaries.set(id, {
      chunks,
      length: (before?.length ?? 0) + rows,
    });
  }

  #metadata(batch: FlatTable): Metadata {
    if (batch.table(3) !== null)
      batch.flat.fail('its body is compressed; write the stream without compression');
    // Columns of nulls alone have no buffers, and some writers leave out the empty list of these.
    if (!batch.has(1)) batch.flat.fail('it lacks its field nodes');
    // Of views, which are not supported: read for its bounds.
    batch.vector(4, 8);
    return { nodes: readPairs(batch, 1), regions: readPairs(batch, 2) };
  }

  #arrays(message: Message, metadata: Metadata, nodes: readonly Node[], rows: number) {
    const reader = new ArrayReader({
      bytes: this.#bytes,
      bodyStart: message.bodyStart,
      bodyBytes: message.bodyBytes,
      nodes: metadata.nodes,
      regions: metadata.regions,
      dictionaries: this.#dictionaries,
      where: message.where,
      checkValues: this.#checkValues,
    });
    return reader.columns(nodes, rows);
  }
}

/** A vector of structs of two 64-bit integers as a flat list. */
function readPairs(batch: FlatTable, slot: number): readonly number[] {
  const { start, length } = batch.vector(slot, 16);
  const out = new Array<number>(length * 2);
  for (let i = 0; i < out.length; i++)
    out[i] = batch.int64At(
      start + i * 8,
      slot === 1 ? 'a length in its field nodes' : 'an offset or length of its buffers',
    );
  return out;
}

/** The value nodes by dictionary id. */
function dictionaryNodes(nodes: readonly Node[], found = new Map<number, Node>()): Map<number, Node> {
  for (const { dictionary, children } of nodes) {
    if (dictionary !== null) {
      const known = found.get(dictionary.id) ?? dictionary.values;
      if (!sameType(known.type, dictionary.values.type))
        invalid(
          `dictionary ${dictionary.id} is declared with the types ${typeText(known.type)} and ${typeText(dictionary.values.type)}`,
        );
      found.set(dictionary.id, known);
    }
    dictionaryNodes(dictionary === null ? children : [dictionary.values], found);
  }
  return found;
}
