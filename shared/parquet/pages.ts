/** The pages of a column of a row group, and which rows are in them. Values are left to the reader (reader.ts). */
import * as zlib from 'node:zlib';
import type { ColumnMetaData, CompressionCodec, Compressors, PageHeader } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { decompressPage } from 'hyparquet/src/datapage.js';
import { readRleBitPackedHybrid } from 'hyparquet/src/encoding.js';
import { ParquetError } from './reader.ts';

/** Holds the header of a page in most files; one with long texts as statistics is read again. */
const HEADER_BYTES = 4096;

/** Those that hyparquet has not; Node 20 has no Zstandard, and LZ4 has two framings under one name. */
const DECOMPRESSORS: Compressors = {
  GZIP: (bytes) => zlib.gunzipSync(bytes),
  BROTLI: (bytes) => zlib.brotliDecompressSync(bytes),
  ...(zlib.zstdDecompressSync && { ZSTD: (bytes: Uint8Array) => zlib.zstdDecompressSync(bytes) }),
};

/** A column of a row group that has one leaf. */
export type PagedColumn = {
  readonly name: string;
  /** Of the leaves of the schema. */
  readonly leaf: number;
  readonly metadata: ColumnMetaData;
  /** 0: a value for each row. */
  readonly repetitionLevelMax: number;
};

export type Page = {
  /** Bytes of the file, header included. */
  readonly from: number;
  readonly to: number;
  readonly uncompressedBytes: number;
  readonly isDictionary: boolean;
  readonly values: number;
  /** Rows that start in it. */
  readonly rows: number;
  /** It starts within a row, as lists may in the first version of data pages. */
  readonly isContinued: boolean;
};

type HeaderPlace = {
  readonly header: PageHeader;
  readonly from: number;
  readonly body: number;
  readonly to: number;
};

const chunkRange = ({ metadata }: PagedColumn): { from: number; to: number } => {
  const from = Number(metadata.dictionary_page_offset || metadata.data_page_offset);
  return { from, to: from + Number(metadata.total_compressed_size) };
};

/** Whether the rows of each page can be told. */
export const hasKnownRows = ({ metadata, repetitionLevelMax }: PagedColumn): boolean => {
  if (repetitionLevelMax === 0) return true;
  const readable: readonly CompressionCodec[] = ['UNCOMPRESSED', 'SNAPPY'];
  // Levels that are packed so are of files from before 2014.
  return (
    !metadata.encodings.includes('BIT_PACKED') &&
    (readable.includes(metadata.codec) || metadata.codec in DECOMPRESSORS)
  );
};

/** Pages by their headers alone: places and sizes. @throws ParquetError */
async function* headersOf(file: Blob, column: PagedColumn): AsyncGenerator<HeaderPlace, void, undefined> {
  const { from, to } = chunkRange(column);
  for (let at = from; at < to; ) {
    const { header, bytes } = await headerAt(file, at, to);
    const body = at + bytes;
    const end = body + header.compressed_page_size;
    if (end < body || end > to) throw new ParquetError(`the page at byte ${at} has no valid size`, false);
    yield { header, from: at, body, to: end };
    at = end;
  }
}

/** In the file or in memory, whichever is larger. @throws ParquetError */
export const largestPageBytes = async (file: Blob, column: PagedColumn): Promise<number> => {
  let bytes = 0;
  for await (const { header, from, to } of headersOf(file, column))
    bytes = Math.max(bytes, to - from, header.uncompressed_page_size);
  return bytes;
};

const headerAt = async (
  file: Blob,
  at: number,
  to: number,
): Promise<{ header: PageHeader; bytes: number }> => {
  for (let size = HEADER_BYTES; ; size *= 16) {
    const view = new DataView(await file.slice(at, Math.min(to, at + size)).arrayBuffer());
    const reader = { view, offset: 0 };
    try {
      return { header: parquetHeader(reader), bytes: reader.offset };
    } catch {
      if (at + size >= to) throw new ParquetError(`the page at byte ${at} has no valid header`, false);
    }
  }
};

/** The dictionary, where there is one, and the data pages in the file's order. @throws ParquetError */
export async function* pagesOf(file: Blob, column: PagedColumn): AsyncGenerator<Page, void, undefined> {
  for await (const place of headersOf(file, column)) {
    const { header, from, body, to } = place;
    const uncompressedBytes = header.uncompressed_page_size + body - from;
    const page = { from, to, uncompressedBytes, isDictionary: false, isContinued: false };
    const [v1, v2] = [header.data_page_header, header.data_page_header_v2];
    if (header.type === 'DICTIONARY_PAGE') yield { ...page, isDictionary: true, values: 0, rows: 0 };
    else if (v2) yield { ...page, values: v2.num_values, rows: v2.num_rows };
    else if (v1 && column.repetitionLevelMax === 0)
      yield { ...page, values: v1.num_values, rows: v1.num_values };
    else if (v1) yield { ...page, values: v1.num_values, ...(await startsOf(file, column, place)) };
  }
}

/** A row starts where the repetition level is 0. */
const startsOf = async (
  file: Blob,
  { metadata, repetitionLevelMax }: PagedColumn,
  { header, body, to }: HeaderPlace,
): Promise<{ rows: number; isContinued: boolean }> => {
  const compressed = new Uint8Array(await file.slice(body, to).arrayBuffer());
  const levels = new Uint8Array(header.data_page_header!.num_values);
  try {
    const page = decompressPage(compressed, header.uncompressed_page_size, metadata.codec, DECOMPRESSORS);
    const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
    readRleBitPackedHybrid({ view, offset: 0 }, 32 - Math.clz32(repetitionLevelMax), levels);
  } catch {
    throw new ParquetError(`the page at byte ${body} is not valid`, false);
  }
  const rows = levels.reduce((starts, level) => (level === 0 ? starts + 1 : starts), 0);
  return { rows, isContinued: levels[0] !== 0 };
};
