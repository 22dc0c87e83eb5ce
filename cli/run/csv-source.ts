/** CSV and TSV files with a header line, streamed. */
import { createReadStream, statSync } from 'node:fs';
import path from 'node:path';
import { CsvError, type Parser, parse } from 'csv-parse';
import { rowsToStream } from '../../shared/arrow/index.ts';
import type { FieldJson } from '../../shared/domain/function.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { CHUNK_BYTES_MAX } from './row-streams.ts';
import { textReader } from './text-values.ts';

/** A quote that is never closed would make the rest of the file one record. */
const RECORD_CHARACTERS_MAX = 64 * 1024 * 1024;

const openCsv = (file: string): Parser =>
  createReadStream(file, { highWaterMark: 1024 * 1024 }).pipe(
    parse({
      bom: true,
      delimiter: path.extname(file).toLowerCase() === '.tsv' ? '\t' : ',',
      max_record_size: RECORD_CHARACTERS_MAX,
      skip_empty_lines: true,
    }),
  );

const header = async (file: string): Promise<string[]> => {
  const parser = openCsv(file);
  for await (const record of parser) {
    parser.destroy();
    return record as string[];
  }
  throw new CommandError(`${file} is empty; its first line must name the columns.`);
};

const explained = (file: string, error: unknown): unknown =>
  error instanceof CsvError ? new CommandError(`${file} is not valid CSV: ${error.message}.`) : error;

const TEXT = (name: string): FieldJson => ({ name, type: 'utf8', nullable: true });

/** Columns of one chunk as they fill. */
class CsvChunk {
  readonly #at: readonly number[];
  readonly #fields: readonly FieldJson[];
  readonly #readers: readonly ((text: string) => unknown)[];
  #columns: unknown[][];
  rows = 0;
  characters = 0;

  constructor(request: RowRequest, columns: readonly string[], where: () => string) {
    this.#at = request.columns.map((name) => columns.indexOf(name));
    this.#fields = request.columns.map((name) => {
      const declared = request.types.get(name);
      return declared === undefined || declared.type === 'any'
        ? TEXT(name)
        : { ...declared, name, nullable: true };
    });
    this.#readers = this.#fields.map((field) => textReader(field, where));
    this.#columns = this.#fields.map(() => []);
  }

  add(record: readonly string[]): void {
    for (let i = 0; i < this.#at.length; i++) {
      const text = record[this.#at[i]!] ?? '';
      this.#columns[i]!.push(this.#readers[i]!(text));
      this.characters += text.length;
    }
    this.rows++;
  }

  take(): Uint8Array {
    const named = Object.fromEntries(this.#fields.map((field, i) => [field.name, this.#columns[i]!]));
    this.#columns = this.#fields.map(() => []);
    this.rows = 0;
    this.characters = 0;
    return rowsToStream(named, this.#fields);
  }
}

export const csvSource = async (file: string): Promise<RowSource> => {
  const bytesTotal = statSync(file).size;
  const columns = await header(file).catch((error: unknown) => {
    throw explained(file, error);
  });
  let parser: Parser | null = null;

  async function* rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    parser = openCsv(file);
    const opened = parser;
    let rowsRead = 0;
    const chunk = new CsvChunk(request, columns, () => `${file}, row ${rowsRead}`);
    let isHeader = true;
    let isEmpty = true;
    try {
      for await (const record of opened) {
        if (isHeader) {
          isHeader = false;
          continue;
        }
        rowsRead++;
        chunk.add(record as string[]);
        if (chunk.rows >= request.rowsMax || chunk.characters >= CHUNK_BYTES_MAX) {
          isEmpty = false;
          yield chunk.take();
        }
      }
    } catch (error) {
      throw explained(file, error);
    }
    if (chunk.rows > 0 || isEmpty) yield chunk.take();
  }

  return {
    columns,
    rowsTotal: null,
    rows,
    readShare: () => (parser && bytesTotal > 0 ? Math.min(1, parser.info.bytes / bytesTotal) : 0),
  };
};
