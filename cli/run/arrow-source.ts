/** Arrow IPC files and streams, read message by message, so that a file of any size needs one record batch of memory. */
import { type FileHandle, open } from 'node:fs/promises';
import { zstdDecompressSync } from 'node:zlib';
import { type Selection, selectColumns, setDecompression } from '../../sdk/table.ts';
import { FlatBuffer, type FlatTable } from '../../shared/arrow/flat-table.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { packed } from './row-streams.ts';

type Message = {
  readonly kind: number;
  readonly bytes: Uint8Array;
  /** Of a dictionary: its id, and whether it goes on with what came before under that id. */
  readonly dictionary: { readonly id: number; readonly isDelta: boolean } | null;
};

const KIND_SCHEMA = 1;
const KIND_DICTIONARY = 2;
const VERSION_5 = 4;
const METADATA_BYTES_MAX = 16 * 1024 * 1024;
const END = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/** Where a message lies in the file. */
type Place = { readonly offset: number; readonly bytes: number };

/** What stands before every batch, and where the rest lies; a stream tells the places as it goes. */
type Head = {
  readonly columns: readonly string[];
  readonly message: Uint8Array;
  readonly places: readonly Place[] | null;
};

/** An Arrow IPC file or stream on disk, message by message. */
class ArrowFile {
  readonly #file: string;
  readonly #handle: FileHandle;
  readonly #size: number;
  at = 0;

  constructor(file: string, handle: FileHandle, size: number) {
    this.#file = file;
    this.#handle = handle;
    this.#size = size;
  }

  static async with<T>(file: string, use: (arrow: ArrowFile) => Promise<T>): Promise<T> {
    const handle = await open(file);
    try {
      return await use(new ArrowFile(file, handle, (await handle.stat()).size));
    } finally {
      await handle.close();
    }
  }

  get share(): number {
    return this.at / this.#size;
  }

  broken(what: string): CommandError {
    return new CommandError(`${this.#file} cannot be read as Arrow: ${what}; write it again.`);
  }

  async head(): Promise<Head> {
    const magic = Buffer.from(await this.#bytes(0, 8)).toString('latin1');
    if (magic.startsWith('ARROW1')) return this.#fileHead();
    const message = await this.#message(0);
    if (message?.kind !== KIND_SCHEMA) throw this.broken('it does not begin with a schema');
    this.at = message.bytes.length;
    const length = new DataView(message.bytes.buffer).getInt32(4, true);
    const table = new FlatBuffer(message.bytes.subarray(8, 8 + length), 'the schema').root().table(2);
    return { columns: this.#columns(table), message: message.bytes, places: null };
  }

  /** The file format has everything in its footer; some writers put the schema nowhere else. */
  async #fileHead(): Promise<Head> {
    const tail = await this.#bytes(this.#size - 10, 10);
    const length = new DataView(tail.buffer).getInt32(0, true);
    if (length <= 0 || length > METADATA_BYTES_MAX || length > this.#size - 18)
      throw this.broken('it has no footer, so that its end is missing');
    const bytes = await this.#bytes(this.#size - 10 - length, length);
    const footer = new FlatBuffer(bytes, 'the footer').root();
    const columns = this.#columns(footer.table(1));
    const places = [2, 3].flatMap((slot) => {
      const blocks = footer.vector(slot, 24);
      return Array.from({ length: blocks.length }, (_, i): Place => {
        const at = blocks.start + i * 24;
        const offset = footer.int64At(at, 'the offset of a block');
        const metadata = new DataView(bytes.buffer).getUint32(at + 8, true);
        return { offset, bytes: metadata + footer.int64At(at + 16, 'the body length of a block') };
      });
    });
    return { columns, message: footerMessage(bytes), places };
  }

  /** The names only: what the other columns hold is asked of those that the run uses. */
  #columns(schema: FlatTable | null): string[] {
    if (schema === null) throw this.broken('it has no schema');
    if (schema.i16(0) !== 0) throw this.broken('it is big-endian');
    return schema.tables(1, (field) => field.string(0) ?? '');
  }

  /** Dictionaries and record batches in their order. */
  async *messages({ places }: Head): AsyncGenerator<Message, void, undefined> {
    for (let i = 0; places === null || i < places.length; i++) {
      if (places !== null) this.at = places[i]!.offset;
      const message = await this.#message(this.at);
      if (message === null) return;
      this.at += message.bytes.length;
      yield message;
    }
  }

  /** null at the end of a stream, with or without its marker. */
  async #message(at: number): Promise<Message | null> {
    if (at >= this.#size) return null;
    const prefix = await this.#bytes(at, 8);
    const view = new DataView(prefix.buffer);
    if (view.getUint32(0, true) !== 0xffffffff)
      throw this.broken('it is not an Arrow stream or file of version 0.15 or later');
    const length = view.getInt32(4, true);
    if (length === 0) return null;
    if (length < 0 || length > METADATA_BYTES_MAX)
      throw this.broken(`a message says that it has ${length} bytes`);
    const table = new FlatBuffer(await this.#bytes(at + 8, length), 'a message').root();
    const bytes = await this.#bytes(at, 8 + length + table.i64(3, 'the body length'));
    const kind = table.u8(1);
    const header = kind === KIND_DICTIONARY ? table.table(2) : null;
    const dictionary = header && { id: header.i64(0, 'the dictionary id'), isDelta: header.u8(2) !== 0 };
    return { kind, bytes, dictionary };
  }

  async #bytes(at: number, length: number): Promise<Uint8Array> {
    if (at < 0 || at + length > this.#size) throw this.broken('it is cut off');
    const bytes = new Uint8Array(length);
    const { bytesRead } = await this.#handle.read(bytes, 0, length, at);
    if (bytesRead < length) throw this.broken('it is cut off');
    return bytes;
  }
}

/**
 * The schema of a footer as the message of a stream, types and all: a table `Message` of its own that points into the
 * footer behind it (arrow/format/Message.fbs).
 */
const footerMessage = (footer: Uint8Array): Uint8Array => {
  const from = new DataView(footer.buffer, footer.byteOffset);
  const root = from.getUint32(0, true);
  const entry = root + from.getUint16(root - from.getInt32(root, true) + 6, true);
  const schema = entry + from.getUint32(entry, true);
  const [vtable, table, metadataBytes] = [4, 16, 32];
  const padded = (footer.length + 7) & ~7;
  const message = Buffer.alloc(8 + metadataBytes + padded);
  message.writeUInt32LE(0xffffffff, 0);
  message.writeUInt32LE(metadataBytes + padded, 4);
  const metadata = message.subarray(8);
  metadata.writeUInt32LE(table, 0);
  // Where the members lie in the table: version, type and place of the header; no body.
  new Uint16Array(metadata.buffer, metadata.byteOffset + vtable, 6).set([12, 12, 8, 10, 4, 0]);
  metadata.writeInt32LE(table - vtable, table);
  metadata.writeUInt32LE(metadataBytes + schema - (table + 4), table + 4);
  metadata.writeInt16LE(VERSION_5, table + 8);
  metadata.writeUInt8(KIND_SCHEMA, table + 10);
  metadata.set(footer, metadataBytes);
  return new Uint8Array(message);
};

const allowCompression = async (): Promise<void> => {
  const { decompress } = await import('lz4js');
  setDecompression({ lz4: (bytes) => decompress(bytes), zstd: (bytes) => zstdDecompressSync(bytes) });
};

const explained = (file: string, error: unknown): unknown =>
  error instanceof SluiceError ? new CommandError(`${file}: ${error.message}`) : error;

export const arrowSource = async (file: string): Promise<RowSource> => {
  const { columns } = await ArrowFile.with(file, (arrow) => arrow.head()).catch((error: unknown) => {
    throw explained(file, error);
  });
  await allowCompression();
  let share = 0;

  async function* batches(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    const selection: Selection[] = request.columns.map((column) => ({ column, as: column }));
    const handle = await open(file);
    try {
      const arrow = new ArrowFile(file, handle, (await handle.stat()).size);
      const head = await arrow.head();
      // Schema and dictionaries stand before each batch that uses them: every batch is a stream of its own here.
      const dictionaries = new Map<number, readonly Uint8Array[]>();
      const streamOf = (...batch: readonly Uint8Array[]): Uint8Array =>
        new Uint8Array(Buffer.concat([head.message, ...[...dictionaries.values()].flat(), ...batch, END]));
      let isEmpty = true;
      for await (const { bytes, dictionary } of arrow.messages(head)) {
        share = arrow.share;
        if (dictionary) {
          const { id, isDelta } = dictionary;
          dictionaries.set(id, [...(isDelta ? (dictionaries.get(id) ?? []) : []), bytes]);
        } else {
          isEmpty = false;
          yield selectColumns(streamOf(bytes), selection);
        }
      }
      share = 1;
      if (isEmpty) yield selectColumns(streamOf(), selection);
    } finally {
      await handle.close();
    }
  }

  async function* rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* packed(batches(request), request.rowsMax);
    } catch (error) {
      throw explained(file, error);
    }
  }

  return {
    columns,
    rowsTotal: null,
    rows,
    readShare: () => share,
  };
};
