/** What the inference store has of a scaling group. */
import type { InferenceFile } from '../../shared/domain/inference.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import {
  INFERENCE_FILES_MAX,
  type InferenceFileJson,
  inferenceFileList,
  inferenceFilesQuery,
} from '../../shared/wire/inference-schemas.ts';
import { MODEL_NAME } from '../../shared/wire/model-members.ts';
import { listInferenceFiles } from '../inferences/inference-files.ts';
import type { Routes } from './room.ts';
import { type Asked, addEntry, type TableEntry } from './table-routes.ts';

const NOTHING = { files: [], next: null };

const time = (at: number): string => new Date(at).toISOString();

const present = (file: InferenceFile): InferenceFileJson => ({
  digest: file.digest,
  href: `/v1/artifacts/${file.digest}`,
  bytes: file.bytes,
  rows: file.rows,
  from: time(file.from),
  until: time(file.until),
  model: file.model,
  model_version: file.modelVersion,
  function_version: file.functionVersion,
  expires_at: time(file.until + file.retentionMs),
});

/** The schema has looked at its form; the calendar has the last word. */
const instantOf = (query: Asked['query'], name: 'from' | 'until'): number | null => {
  const text = query[name] as string | undefined;
  if (text === undefined) return null;
  const at = Date.parse(text);
  if (Number.isFinite(at)) return at;
  throw new SluiceError(
    'invalid_request',
    `${name} is ${JSON.stringify(text.slice(0, 80))}; it takes a time such as 2026-11-01T00:00:00Z.`,
    { field: name },
  );
};

const ENTRIES: readonly TableEntry[] = [
  {
    ...{ method: 'GET', path: '/v1/scaling-groups/{name}/inference-files', tag: 'scaling groups' },
    summary: 'Parquet files of sampled rows and their answers, by time',
    // A file has the rows of every caller. Whoever may deploy could read them in a handler as well.
    scope: 'deploy',
    ...{ query: inferenceFilesQuery, view: inferenceFileList },
    work: async ({ room, params, query }) => {
      const group = params.name!;
      const limit = (query.limit as number | undefined) ?? INFERENCE_FILES_MAX;
      const after = (query.after as string | undefined) ?? null;
      const [from, until] = [instantOf(query, 'from'), instantOf(query, 'until')];
      const { files, next } = MODEL_NAME.test(group)
        ? await listInferenceFiles(room.store.documents, { group, from, until, after, limit })
        : NOTHING;
      // A group that was deleted leaves its files until their retention ends.
      if (files.length === 0) await room.groups.show(group);
      return { value: { inference_files: files.map(({ file }) => present(file)), next } };
    },
  },
];

export const inferenceRoutes: Routes = (app, room) => {
  for (const entry of ENTRIES) addEntry(app, room, entry);
};
