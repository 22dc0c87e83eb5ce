/** Arrow IPC files and streams, read message by message, so that a file of any size needs one record batch of memory. */
import { type FileHandle, open } from 'node:fs/promises';
import { zstdDecompressSync } from 'node:zlib';
import { type Selection, selectColumns, setDecompression } from '../../sdk/table.ts';
import { FlatBuffer } from '../../shared/arrow/flat-table.ts';
import { readSchema } from '../../shared/arrow/schema-message.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { packed } from './row-streams.ts';

type Message = { readonly kind: number; readonly bytes: Uint8Array };

const KIND_SCHEMA = 1;
const KIND_DICTIONARY = 2;
const METADATA_BYTES_MAX = 16 * 1024 * 1024;
const END = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

class MessageReader {
  readonly #file: string;
  readonly #handle: FileHandle;
  at = 0;

  constructor(file: string, handle: FileHandle) {
    this.#file = file;
    this.#handle = handle;
  }

  broken(what: string): CommandError {
    return new CommandError(`${this.#file} cannot be read as Arrow: ${what}; write it again.`);
  }

  /** Goes behind the magic of the file format; a stream begins with its schema message. */
  async begin(): Promise<void> {
    const head = await this.#bytes(0, 8);
    this.at = Buffer.from(head.subarray(0, 6)).toString('latin1') === 'ARROW1' ? 8 : 0;
  }

  async next(): Promise<Message | null> {
    const prefix = await this.#bytes(this.at, 8).catch(() => null);
    if (prefix === null) return null;
    const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
    if (view.getUint32(0, true) !== 0xffffffff)
      throw this.broken('it is not an Arrow stream or file of version 0.15 or later');
    const length = view.getInt32(4, true);
    if (length === 0) return null;
    if (length < 0 || length > METADATA_BYTES_MAX)
      throw this.broken(`a message says that it has ${length} bytes`);
    const metadata = await this.#bytes(this.at + 8, length);
    const table = new FlatBuffer(metadata, 'a message').root();
    const bodyBytes = table.i64(3, 'the body length');
    const bytes = await this.#bytes(this.at, 8 + length + bodyBytes);
    this.at += bytes.length;
    return { kind: table.u8(1), bytes };
  }

  async #bytes(at: number, length: number): Promise<Uint8Array> {
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

const schemaOf = async (file: string): Promise<string[]> => {
  const handle = await open(file);
  try {
    const reader = new MessageReader(file, handle);
    await reader.begin();
    const message = await reader.next();
    if (message?.kind !== KIND_SCHEMA) throw reader.broken('it does not begin with a schema');
    const length = new DataView(message.bytes.buffer).getInt32(4, true);
    const table = new FlatBuffer(message.bytes.subarray(8, 8 + length), 'the schema').root().table(2);
    if (table === null) throw reader.broken('its schema is empty');
    return readSchema(table).fields.map(({ name }) => name);
  } finally {
    await handle.close();
  }
};

export const arrowSource = async (file: string): Promise<RowSource> => {
  const columns = await schemaOf(file);
  await allowCompression();
  let share = 0;

  async function* batches(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    const selection: Selection[] = request.columns.map((column) => ({ column, as: column }));
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const reader = new MessageReader(file, handle);
      await reader.begin();
      // Schema and dictionaries stand before each batch that uses them: every batch is a stream of its own here.
      const head: Uint8Array[] = [];
      let isEmpty = true;
      for (let message = await reader.next(); message !== null; message = await reader.next()) {
        share = reader.at / size;
        if (message.kind === KIND_SCHEMA || message.kind === KIND_DICTIONARY) head.push(message.bytes);
        else {
          isEmpty = false;
          yield selectColumns(new Uint8Array(Buffer.concat([...head, message.bytes, END])), selection);
        }
      }
      if (isEmpty) yield selectColumns(new Uint8Array(Buffer.concat([...head, END])), selection);
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
