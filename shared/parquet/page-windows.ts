/**
 * A column of a row group in bounded memory. The reader loads a row group's column as a whole; here it is given a file of
 * some of its pages at a time: the pages as they are in the file, and a footer that says that these are all.
 */
import { deserializeTCompactProtocol } from 'hyparquet/src/thrift.js';
import { fieldBytes, fieldRanges, StructBytes, type ThriftStruct } from './compact-thrift.ts';
import { type Page, type PagedColumn, pagesOf } from './pages.ts';
import { openParquet, type ParquetBatch, ParquetError } from './reader.ts';

const MAGIC = new TextEncoder().encode('PAR1');

/** Fields of a FileMetaData (parquet.thrift). */
const ROW_COUNT_FIELD = 3;
const ROW_GROUPS_FIELD = 4;

/** What the footer says of one row group, column by column. */
export type GroupFooter = {
  /** Schema, and whatever else stands before and after the row groups, byte by byte. */
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly leaves: readonly LeafFooter[];
};

type LeafFooter = {
  /** Of its ColumnMetaData: type, encodings, path, compression. */
  readonly kind: ThriftStruct;
  readonly bytes: StructBytes;
};

export type WindowRequest = {
  readonly file: Blob;
  readonly footer: GroupFooter;
  readonly column: PagedColumn;
  readonly rows: number;
  readonly batchRows: number;
  /** Of a window, where a batch needs no more. */
  readonly windowBytes: number;
};

type Window = {
  readonly dictionary: Page | null;
  readonly pages: readonly Page[];
  readonly from: number;
  readonly until: number;
  /** Of the rows that start in its first page. */
  readonly firstRow: number;
};

type PlacedPage = Page & { readonly firstRow: number };

/** Arrow streams of `batchRows` rows, the last one of what is left. @throws ParquetError */
export async function* windowedBatches(
  request: WindowRequest,
): AsyncGenerator<ParquetBatch, void, undefined> {
  const { column, batchRows } = request;
  for await (const window of windowsOf(request)) {
    const parquet = await openParquet(windowFile(request, window));
    const carried = window.pages[0]!.isContinued ? 1 : 0;
    const range = { offset: window.from - window.firstRow + carried, limit: window.until - window.from };
    try {
      yield* parquet.batches({ columns: [column.name], batchRows, range });
    } finally {
      parquet.close();
    }
  }
}

/** Runs of pages that hold whole batches, each with what the next one needs of its last page. */
async function* windowsOf(request: WindowRequest): AsyncGenerator<Window, void, undefined> {
  const { file, column, rows, batchRows, windowBytes } = request;
  let dictionary: Page | null = null;
  let pages: PlacedPage[] = [];
  let [firstRow, values, from] = [0, 0, 0];
  for await (const page of pagesOf(file, column)) {
    if (page.isDictionary) {
      dictionary = page;
      continue;
    }
    pages.push({ ...page, firstRow });
    firstRow += page.rows;
    values += page.values;
    const isLast = values >= Number(column.metadata.num_values);
    // The last row of a page of lists may go on in the next one.
    const whole = isLast || column.repetitionLevelMax === 0 ? firstRow : firstRow - 1;
    const until = isLast ? whole : whole - (whole % batchRows);
    if (until <= from || (!isLast && page.to - pages[0]!.from < windowBytes)) continue;
    yield { dictionary, pages, from, until, firstRow: pages[0]!.firstRow };
    from = until;
    pages = pages.filter((held) => held.firstRow + held.rows > until);
  }
  if (from !== rows) throw new ParquetError(`a column has ${from} rows in a row group of ${rows}`, false);
}

/** @throws ParquetError */
export const groupFooter = async (file: Blob, group: number): Promise<GroupFooter> => {
  const tail = new DataView(await file.slice(-8).arrayBuffer());
  const length = tail.getUint32(0, true);
  const bytes = new Uint8Array(await file.slice(-8 - length, -8).arrayBuffer());
  const fields = [...fieldRanges(bytes)];
  const rowCount = fields.find(({ id }) => id === ROW_COUNT_FIELD);
  const groups = fields.find(({ id }) => id === ROW_GROUPS_FIELD);
  if (rowCount === undefined || groups === undefined || groups.from !== rowCount.to)
    throw new ParquetError('its footer has an unknown order', false);
  const metadata = deserializeTCompactProtocol({ view: new DataView(bytes.buffer), offset: 0 });
  return {
    before: bytes.subarray(0, rowCount.from),
    after: bytes.subarray(groups.to),
    leaves: metadata.field_4[group].field_1.map(leafFooter),
  };
};

/** Statistics, indexes and the like are left out. */
const leafFooter = ({ field_3: metadata }: { field_3: ThriftStruct }): LeafFooter => {
  const { field_1, field_2, field_3, field_4, field_5, field_6, field_7, field_9, field_11 } = metadata;
  const kind = { field_1, field_2, field_3, field_4 };
  return { kind, bytes: chunkBytes(kind, { field_5, field_6, field_7, field_9, field_11 }) };
};

const chunkBytes = (kind: ThriftStruct, place: ThriftStruct): StructBytes =>
  new StructBytes({ field_2: 0n, field_3: { ...kind, ...place } });

const windowFile = ({ file, footer, column }: WindowRequest, { dictionary, pages }: Window): Blob => {
  const whole = dictionary === null ? pages : [dictionary, ...pages];
  const sum = (of: (page: Page) => number): number => whole.reduce((total, page) => total + of(page), 0);
  const dictionaryBytes = dictionary === null ? 0 : dictionary.to - dictionary.from;
  const place: ThriftStruct = {
    field_5: BigInt(sum(({ values }) => values)),
    field_6: BigInt(sum(({ uncompressedBytes }) => uncompressedBytes)),
    field_7: BigInt(sum(({ from, to }) => to - from)),
    field_9: BigInt(MAGIC.length + dictionaryBytes),
    field_11: dictionary === null ? undefined : BigInt(MAGIC.length),
  };
  const leaves = footer.leaves.map(({ kind, bytes }, i) =>
    i === column.leaf ? chunkBytes(kind, place) : bytes,
  );
  const rows = BigInt(sum((page) => page.rows) + (pages[0]!.isContinued ? 1 : 0));
  const rowGroup = { field_1: leaves, field_2: place.field_6, field_3: rows };
  const changed = fieldBytes({ field_3: rows, field_4: [rowGroup] }, ROW_COUNT_FIELD - 1);
  const footerBytes = Buffer.concat([footer.before, changed, footer.after]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footerBytes.length);
  const [first, last] = [pages[0]!, pages.at(-1)!];
  return new Blob([
    MAGIC,
    ...(dictionary === null ? [] : [file.slice(dictionary.from, dictionary.to)]),
    file.slice(first.from, last.to),
    footerBytes,
    length,
    MAGIC,
  ]);
};
