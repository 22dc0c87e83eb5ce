/** Parquet from Arrow streams, in the types of parquet-type.ts (parquet-wasm: docs/decisions/0004-parquet.md). Encoding is synchronous: use it in a thread. */
import { createWriteStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { openStream, sameType, tableStream, valueColumns } from '../arrow/index.ts';
import { parquetField } from './parquet-type.ts';

/** Rows and bytes of a row group at most: readers skip by row groups, and the writer holds one in memory. */
const ROW_GROUP_ROWS = 100_000;
const ROW_GROUP_BYTES = 64 * 1024 * 1024;

const load = () => import('parquet-wasm');

const propertiesOf = (parquet: Awaited<ReturnType<typeof load>>) =>
  new parquet.WriterPropertiesBuilder()
    .setCompression(parquet.Compression.SNAPPY)
    .setMaxRowGroupSize(ROW_GROUP_ROWS)
    .setMaxRowGroupBytes(ROW_GROUP_BYTES)
    // A dictionary of floats or of texts that never repeat costs a third of the speed and saves nothing.
    .setDictionaryEnabled(false)
    .setStatisticsEnabled(parquet.EnabledStatistics.Chunk)
    .setCreatedBy('sluice');

/** What has no logical type in Parquet, as what has one. */
const castStream = (bytes: Uint8Array): Uint8Array => {
  const { fields } = openStream(bytes);
  const wanted = fields.map(parquetField);
  if (wanted.every(({ type }, i) => sameType(type, fields[i]!.type))) return bytes;
  return tableStream(valueColumns(bytes, wanted), openStream(bytes).rows);
};

/**
 * Writes the rows of streams with one schema.
 * @throws Error, or a text, for a type that Parquet does not hold
 */
export const writeParquetFile = async (parts: AsyncIterable<Uint8Array>, file: string): Promise<void> => {
  const parquet = await load();
  const properties = propertiesOf(parquet).build();
  const iterator = parts[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done) return;
  const head = parquet.Table.fromIPCStream(castStream(first.value));
  // The streaming writer takes its schema from the first batch; the part of an empty input has none.
  if (head.numBatches === 0) return writeFile(file, parquet.writeParquet(head, properties));
  async function* batches() {
    yield* head.recordBatches();
    for (let next = await iterator.next(); !next.done; next = await iterator.next())
      yield* parquet.Table.fromIPCStream(castStream(next.value)).recordBatches();
  }
  const bytes = await parquet.transformParquetStream(ReadableStream.from(batches()) as never, properties);
  await pipeline(Readable.fromWeb(bytes as never), createWriteStream(file));
};

/**
 * One stream as a file. `repeating`: columns whose values are few, and are written once.
 * @throws Error, or a text, for a type that Parquet does not hold (parquet-type.ts)
 */
export const parquetOf = async (stream: Uint8Array, repeating: readonly string[]): Promise<Uint8Array> => {
  const parquet = await load();
  let properties = propertiesOf(parquet);
  for (const column of repeating) properties = properties.setColumnDictionaryEnabled(column, true);
  return parquet.writeParquet(parquet.Table.fromIPCStream(stream), properties.build());
};
