/** CSV and TSV files with a header line, streamed. */
import { statSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream';
import { CsvError, type Options, type Parser, parse } from 'csv-parse';
import type { FieldJson } from '../../shared/domain/function.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { CHUNK_BYTES_MAX } from './row-streams.ts';
import { LINE_CHARACTERS_MAX, type ReadSoFar, textChunks } from './text-file.ts';
import { TextError, textReader } from './text-values.ts';
import { typedStream } from './typed-rows.ts';

const openCsv = (file: string, read?: ReadSoFar, options: Options = {}): Parser => {
  const parser = parse({
    // Files put together from several have ends of each kind; the first line's alone would merge the rows of the others.
    record_delimiter: ['\r\n', '\n', '\r'],
    delimiter: path.extname(file).toLowerCase() === '.tsv' ? '\t' : ',',
    // A quote that is never closed would make the rest of the file one record.
    max_record_size: LINE_CHARACTERS_MAX,
    skip_empty_lines: true,
    ...options,
  });
  // What fails in the file fails the parser, whose reader hears of it.
  return pipeline(textChunks(file, read), parser, () => undefined);
};

/** The line that a data row, from 0, begins in. Only a row that is refused is looked for: the file is read again. */
const placeOf = async (file: string, row: number): Promise<string> => {
  // Records count from 1, and the header is the first.
  const parser = openCsv(file, undefined, { info: true, from: row + 2, to: row + 2 });
  for await (const { record, info } of parser) {
    const lineBreaks = (record as string[]).join('').split('\n').length - 1;
    return `${file}, line ${info.lines - lineBreaks}`;
  }
  return file;
};

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

  constructor(request: RowRequest, columns: readonly string[]) {
    this.#at = request.columns.map((name) => columns.indexOf(name));
    this.#fields = request.columns.map((name) => {
      const declared = request.types.get(name);
      return declared === undefined || declared.type === 'any'
        ? TEXT(name)
        : { ...declared, name, nullable: true };
    });
    this.#readers = this.#fields.map((field) => textReader(field));
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

  /** @throws CommandError naming the line; `place` finds that of a row of this chunk */
  async take(place: (row: number) => Promise<string>): Promise<Uint8Array> {
    const columns = this.#columns;
    this.#columns = this.#fields.map(() => []);
    this.rows = 0;
    this.characters = 0;
    return typedStream(columns, this.#fields, place);
  }
}

export const csvSource = async (file: string): Promise<RowSource> => {
  const bytesTotal = statSync(file).size;
  const columns = await header(file).catch((error: unknown) => {
    throw explained(file, error);
  });
  const read = { bytes: 0 };

  async function* rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    const chunk = new CsvChunk(request, columns);
    let rowsTaken = 0;
    const take = (): Promise<Uint8Array> => {
      const from = rowsTaken;
      rowsTaken += chunk.rows;
      return chunk.take((row) => placeOf(file, from + row));
    };
    try {
      for await (const record of openCsv(file, read, { from: 2 })) {
        chunk.add(record as string[]);
        if (chunk.rows >= request.rowsMax || chunk.characters >= CHUNK_BYTES_MAX) yield await take();
      }
    } catch (error) {
      if (error instanceof TextError)
        throw new CommandError(`${await placeOf(file, rowsTaken + chunk.rows)}: ${error.message}`);
      throw explained(file, error);
    }
    if (chunk.rows > 0 || rowsTaken === 0) yield await take();
  }

  return {
    columns,
    rowsTotal: null,
    rows,
    readShare: () => (bytesTotal > 0 ? read.bytes / bytesTotal : 0),
  };
};
