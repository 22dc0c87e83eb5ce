/** The output, written part by part in row order, and visible under its name only when it is whole. */
import { createWriteStream } from 'node:fs';
import { type FileHandle, open, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FILE_MAGIC, type FileBlock, fileFooter, openStream } from '../../shared/arrow/index.ts';
import { UsageError } from '../failure.ts';

/** Takes the parts of a run in order. */
type OutputFormat = (parts: AsyncIterable<Uint8Array>, file: string) => Promise<void>;

/** Rows and bytes of a row group at most: readers skip by row groups, and the writer holds one in memory. */
const ROW_GROUP_ROWS = 100_000;
const ROW_GROUP_BYTES = 64 * 1024 * 1024;

const writeParquet: OutputFormat = async (parts, file) => {
  const parquet = await import('parquet-wasm');
  const properties = new parquet.WriterPropertiesBuilder()
    .setCompression(parquet.Compression.SNAPPY)
    .setMaxRowGroupSize(ROW_GROUP_ROWS)
    .setMaxRowGroupBytes(ROW_GROUP_BYTES)
    // A dictionary of floats or of texts that never repeat costs a third of the speed and saves nothing.
    .setDictionaryEnabled(false)
    .setStatisticsEnabled(parquet.EnabledStatistics.Chunk)
    .setCreatedBy('sluice')
    .build();
  const iterator = parts[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done) return;
  const head = parquet.Table.fromIPCStream(first.value);
  // The streaming writer takes its schema from the first batch; the part of an empty input has none.
  if (head.numBatches === 0) return writeFile(file, parquet.writeParquet(head, properties));
  async function* batches() {
    yield* head.recordBatches();
    for (let next = await iterator.next(); !next.done; next = await iterator.next())
      yield* parquet.Table.fromIPCStream(next.value).recordBatches();
  }
  const bytes = await parquet.transformParquetStream(ReadableStream.from(batches()) as never, properties);
  await pipeline(Readable.fromWeb(bytes as never), createWriteStream(file));
};

const writeArrow =
  (hasFooter: boolean): OutputFormat =>
  async (parts, file) => {
    const handle = await open(file, 'w');
    try {
      await writeMessages(handle, parts, hasFooter);
    } finally {
      await handle.close();
    }
  };

const writeMessages = async (handle: FileHandle, parts: AsyncIterable<Uint8Array>, hasFooter: boolean) => {
  const blocks: FileBlock[] = [];
  let at = 0;
  let fields: ReturnType<typeof openStream>['fields'] | null = null;
  const append = async (bytes: Uint8Array): Promise<void> => {
    await handle.writeFile(bytes);
    at += bytes.length;
  };
  if (hasFooter) await append(FILE_MAGIC);
  for await (const part of parts) {
    const stream = openStream(part);
    if (fields === null) await append(stream.schemaMessage);
    fields ??= stream.fields;
    for (const { message } of stream.batches) {
      const metadataBytes = 8 + new DataView(message.buffer, message.byteOffset).getInt32(4, true);
      blocks.push({ offset: at, metadataBytes, bodyBytes: message.length - metadataBytes });
      await append(message);
    }
  }
  const ends = fileFooter(fields ?? [], blocks);
  for (const bytes of hasFooter ? ends : ends.slice(0, 1)) await append(bytes);
};

const OUTPUTS: Readonly<Record<string, OutputFormat>> = {
  '.parquet': writeParquet,
  '.arrow': writeArrow(true),
  '.feather': writeArrow(true),
  '.ipc': writeArrow(true),
  '.arrows': writeArrow(false),
};

export const checkOutput = (output: string): void => {
  if (!OUTPUTS[path.extname(output).toLowerCase()])
    throw new UsageError(
      `--output is ${output}; its name must end in one of ${Object.keys(OUTPUTS).join(', ')}.`,
    );
};

/** Writes the parts under `partial`, syncs, and renames it to `output`. */
export const writeOutput = async (
  parts: AsyncIterable<Uint8Array>,
  partial: string,
  output: string,
): Promise<void> => {
  await OUTPUTS[path.extname(output).toLowerCase()]!(parts, partial);
  const handle = await open(partial, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(partial, output);
};
