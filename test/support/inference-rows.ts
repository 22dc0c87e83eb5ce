/** What the inference store has of a group, read back from its files as whoever asks would read them. */
import { streamToColumns } from '../../shared/arrow/index.ts';
import { type InferenceFile, inferenceFilePrefix } from '../../shared/domain/inference.ts';
import { openParquet } from '../../shared/parquet/reader.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';

export type InferenceRow = Readonly<Record<string, unknown>>;

export const inferenceFiles = async (
  documents: Documents,
  group: string,
): Promise<readonly InferenceFile[]> =>
  (await documents.list({ kind: 'inference-file', prefix: inferenceFilePrefix(group), limit: 1000 })).map(
    ({ value }) => value as InferenceFile,
  );

export const artifactBytes = async (artifacts: Artifacts, digest: string): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await artifacts.read({ digest })).body) chunks.push(chunk);
  return Buffer.concat(chunks);
};

const COLUMNS = [
  ...['time', 'call_id', 'row', 'model', 'model_version', 'function_version', 'attempt', 'batch_rows'],
  ...['handler_ms', 'status', 'error_code', 'error_message', 'input', 'output'],
];

/** The rows of a Parquet file. */
export const parquetRows = async (bytes: Uint8Array): Promise<readonly InferenceRow[]> => {
  const parquet = await openParquet(new Blob([bytes as Uint8Array<ArrayBuffer>]));
  const rows: InferenceRow[] = [];
  for await (const { stream } of parquet.batches({ columns: COLUMNS, batchRows: 10_000 })) {
    const columns = Object.entries(streamToColumns(stream));
    const count = columns[0]![1].length;
    for (let row = 0; row < count; row += 1)
      rows.push(Object.fromEntries(columns.map(([name, values]) => [name, values[row]])));
  }
  parquet.close();
  return rows;
};

/** All rows of a group's files, file by file. */
export const inferenceRows = async (
  documents: Documents,
  artifacts: Artifacts,
  group: string,
): Promise<readonly InferenceRow[]> => {
  const rows: InferenceRow[] = [];
  for (const { digest } of await inferenceFiles(documents, group))
    rows.push(...(await parquetRows(await artifactBytes(artifacts, digest))));
  return rows;
};
