/** The output, written part by part in row order, and visible under its name only when it is whole. */
import { statSync } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import path from 'node:path';
import { FILE_MAGIC, type FileBlock, fileFooter, openStream } from '../../shared/arrow/index.ts';
import { writeParquetFile } from '../../shared/parquet/writer.ts';
import { UsageError } from '../failure.ts';

/** Takes the parts of a run in order. */
type OutputFormat = (parts: AsyncIterable<Uint8Array>, file: string) => Promise<void>;

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
  '.parquet': writeParquetFile,
  '.arrow': writeArrow(true),
  '.feather': writeArrow(true),
  '.ipc': writeArrow(true),
  '.arrows': writeArrow(false),
};

/** Before the first call: what would be found only after the last one, when the output takes its name. */
export const checkOutput = (output: string, input: string): void => {
  if (!OUTPUTS[path.extname(output).toLowerCase()])
    throw new UsageError(
      `--output is ${output}; its name must end in one of ${Object.keys(OUTPUTS).join(', ')}.`,
    );
  const stats = statSync(output, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isFile())
    throw new UsageError(
      `--output ${output} is ${stats.isDirectory() ? 'a directory' : 'no regular file'}; give the name of a file.`,
    );
  // The same file may have several names.
  const read = statSync(input, { throwIfNoEntry: false });
  if (read?.dev === stats.dev && read.ino === stats.ino)
    throw new UsageError(`--output ${output} is the input; give another name.`);
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
