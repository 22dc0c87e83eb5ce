/** Arrow IPC files and streams, read message by message, so that a file of any size needs one record batch of memory. */
import { type FileHandle, open } from 'node:fs/promises';
import { zstdDecompressSync } from 'node:zlib';
import { type Selection, selectColumns, setDecompression } from '../../sdk/table.ts';
import { FlatBuffer } from '../../shared/arrow/flat-table.ts';
import { readSchema, type Schema, schemaMessage } from '../../shared/arrow/schema-message.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { packed } from './row-streams.ts';

type Message = { readonly kind: number; readonly bytes: Uint8Array };

const KIND_SCHEMA = 1;
const KIND_DICTIONARY = 2;
const METADATA_BYTES_MAX = 16 * 1024 * 1024;
const END = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/** Where a message lies in the file. */
type Place = { readonly offset: number; readonly bytes: number };

/** What stands before every batch, and where the rest lies; a stream tells the places as it goes. */
type Head = {
  readonly schema: Schema;
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
    if (table === null) throw this.broken('its schema is empty');
    return { schema: readSchema(table), message: message.bytes, places: null };
  }

  /** The file format has everything in its footer; some writers put the schema nowhere else. */
  async #fileHead(): Promise<Head> {
    const tail = await this.#bytes(this.#size - 10, 10);
    const length = new DataView(tail.buffer).getInt32(0, true);
    if (length <= 0 || length > METADATA_BYTES_MAX || length > this.#size - 18)
      throw this.broken('it has no footer, so that its end is missing');
    const flat = new FlatBuffer(await this.#bytes(this.#size - 10 - length, length), 'the footer');
    const footer = flat.root();
    const table = footer.table(1);
    if (table === null) throw this.broken('its footer has no schema');
    const schema = readSchema(table);
    const places = [2, 3].flatMap((slot) => {
      const blocks = footer.vector(slot, 24);
      return Array.from({ length: blocks.length }, (_, i): Place => {
        const at = blocks.start + i * 24;
        const offset = footer.int64At(at, 'the offset of a block');
        const metadata = flat.u32(at + 8);
        return { offset, bytes: metadata + footer.int64At(at + 16, 'the body length of a block') };
      });
    });
    return { schema, message: schemaMessage(schema.nodes), places };
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
    return { kind: table.u8(1), bytes };
  }

  async #bytes(at: number, length: number): Promise<Uint8Array> {
    if (at < 0 || at + length > this.#size) throw this.broken('it is cut off');
    const bytes = new Uint8Array(length);
    const { bytesRead } = await this.#handle.read(bytes, 0, length, at);
    if (bytesRead < length) throw this.broken('it is cut off');
    return bytes;
  }
}

const allowCompression = async (): Promise<void> => {
  const { decompress } = await import('lz4js');
  setDecompression({ lz4: (bytes) => decompress(bytes), zstd: (bytes) => zstdDecompressSync(bytes) });
};

export const arrowSource = async (file: string): Promise<RowSource> => {
  const columns = await ArrowFile.with(file, async (arrow) =>
    (await arrow.head()).schema.fields.map(({ name }) => name),
  );
  await allowCompression();
  let share = 0;

  async function* batches(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    const selection: Selection[] = request.columns.map((column) => ({ column, as: column }));
    const handle = await open(file);
    try {
      const arrow = new ArrowFile(file, handle, (await handle.stat()).size);
      const head = await arrow.head();
      // Schema and dictionaries stand before each batch that uses them: every batch is a stream of its own here.
      const before: Uint8Array[] = [head.message];
      let isEmpty = true;
      for await (const message of arrow.messages(head)) {
        share = arrow.share;
        if (message.kind === KIND_DICTIONARY) before.push(message.bytes);
        else {
          isEmpty = false;
          yield selectColumns(new Uint8Array(Buffer.concat([...before, message.bytes, END])), selection);
        }
      }
      share = 1;
      if (isEmpty) yield selectColumns(new Uint8Array(Buffer.concat([...before, END])), selection);
    } finally {
      await handle.close();
    }
  }

  return {
    columns,
    rowsTotal: null,
    rows: (request) => packed(batches(request), request.rowsMax),
    readShare: () => share,
  };
};
