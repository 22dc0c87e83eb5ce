/** Which files of a time range are read for drift figures, and how many of their rows. */
import { inferenceFileTime } from '../../shared/domain/inference.ts';
import type { Digest } from '../../shared/domain/model.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { inferenceFiles } from './inference-files.ts';

/** Of one file each n-th row is taken: `rate` is 1 / n, above 0 to 1. */
export type Portion = { readonly digest: Digest; readonly rate: number };
export type TimeRange = { readonly from: number; readonly until: number };
export type FileSize = { readonly digest: Digest; readonly bytes: number; readonly rows: number };

/** A share of a percent is told apart with these. */
export const DRIFT_ROWS_MAX = 50_000;
/** A side is read within seconds. */
const FILES_MAX = 1000;
const BYTES_MAX = 256 * 2 ** 20;
/** Entries of the index that are read; of a range with more, so many of each of its slices. */
const LISTED_MAX = 10_000;
const SLICES = 20;

/** Rows are taken evenly from all files; of too many files, from those in which evenly spaced rows lie. */
export const evenPortions = (files: readonly FileSize[]): readonly Portion[] => {
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const share = Math.min(1, FILES_MAX / files.length, BYTES_MAX / bytes);
  if (share === 1) return files.map(({ digest }) => ({ digest, rate: Math.min(1, DRIFT_ROWS_MAX / rows) }));
  const stops = Math.max(1, Math.floor(files.length * share));
  const portions: Portion[] = [];
  let [passed, stop] = [0, 0];
  for (const file of files) {
    const before = stop;
    passed += file.rows;
    while (stop < stops && ((stop + 0.5) * rows) / stops < passed) stop += 1;
    const wanted = ((stop - before) * DRIFT_ROWS_MAX) / stops;
    if (wanted > 0) portions.push({ digest: file.digest, rate: Math.min(1, wanted / file.rows) });
  }
  return portions;
};

export const rangePortions = async (
  documents: Documents,
  group: string,
  range: TimeRange,
): Promise<readonly Portion[]> => {
  const all = await listed(documents, group, range, LISTED_MAX);
  if (all.length < LISTED_MAX) return evenPortions(all);
  const sliced: FileSize[] = [];
  const sliceMs = (range.until - range.from) / SLICES;
  for (let slice = 0; slice < SLICES; slice += 1) {
    const from = range.from + slice * sliceMs;
    // Files that began before it belong to the slice before.
    const after = inferenceFileTime(from);
    sliced.push(
      ...(await listed(documents, group, { from, until: from + sliceMs }, LISTED_MAX / SLICES, after)),
    );
  }
  return evenPortions(sliced);
};

const listed = async (
  documents: Documents,
  group: string,
  range: TimeRange,
  max: number,
  after: string | null = null,
): Promise<readonly FileSize[]> => {
  const files: FileSize[] = [];
  for await (const { file } of inferenceFiles(documents, { group, ...range, after })) {
    if (file.rows > 0) files.push(file);
    if (files.length === max) break;
  }
  return files;
};
