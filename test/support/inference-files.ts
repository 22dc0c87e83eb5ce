/** Files of the inference store as a worker leaves them: Parquet among the artifacts, and their documents. */
import { createHash, randomUUID } from 'node:crypto';
import { Table, WriterPropertiesBuilder, writeParquet } from 'parquet-wasm';
import { rowsToStream } from '../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../shared/domain/function.ts';
import { type InferenceFile, inferenceFileKey } from '../../shared/domain/inference.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';

const field = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });

export type InferenceRows = {
  readonly group: string;
  /** One a row, wall-clock milliseconds, ascending. */
  readonly times: readonly number[];
  readonly inputs: readonly FieldJson[];
  readonly output: TypeJson;
  /** Objects of the inputs. */
  readonly input: readonly object[];
  readonly outputs: readonly unknown[];
};

export const inferenceParquet = ({ times, inputs, output, input, outputs }: InferenceRows): Uint8Array => {
  const fields = [
    field('time', { timestamp: 'ms', tz: 'UTC' }),
    field('call_id', 'utf8'),
    field('input', { struct: inputs }),
    field('output', output),
  ];
  const columns = {
    time: times.map((at) => new Date(at)),
    call_id: times.map((_, row) => `c${row}`),
    ...{ input, output: outputs },
  };
  const table = Table.fromIPCStream(rowsToStream(columns, fields));
  return writeParquet(table, new WriterPropertiesBuilder().build());
};

export type InferencePlace = { readonly documents: Documents; readonly artifacts: Artifacts };

/** @param bytes in place of the rows' own */
export const putInferenceFile = async (
  { documents, artifacts }: InferencePlace,
  rows: InferenceRows,
  bytes = inferenceParquet(rows),
): Promise<string> => {
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}` as const;
  const body = async function* () {
    yield bytes;
  };
  await artifacts.append({ digest, offsetBytes: 0, bytes: bytes.length, body: body() });
  const file: InferenceFile = {
    ...{ group: rows.group, digest, bytes: bytes.length, rows: rows.times.length },
    ...{ from: rows.times[0]!, until: rows.times.at(-1)! },
    ...{ model: 'm', modelVersion: 1, functionVersion: 'v', retentionMs: 86_400_000 },
  };
  const key = inferenceFileKey(file, randomUUID());
  await documents.put({ kind: 'inference-file', key, revision: null, value: file });
  return key;
};
