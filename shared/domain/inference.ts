/** The inference store: what is sampled of a function's rows, and what is kept of it (docs/decisions/0018). */
import type { Digest } from './model.ts';

/** So that a file's rows lie within an hour of its first. */
export const INFERENCE_FLUSH_MS_MAX = 3_600_000;

export type InferenceStoreSpec = {
  /** Share of rows, above 0 to 1. */
  readonly sampleRate: number;
  /** A file is kept so long after its last row. */
  readonly retentionMs: number;
  /** Rows wait so long for their file at most. */
  readonly flushMs: number;
};

/** One Parquet file: the document `inference-file/GROUP/TIME-UUID`; TIME is `from` in 13 digits, so that keys go by time. */
export type InferenceFile = {
  readonly group: string;
  /** The artifact. */
  readonly digest: Digest;
  readonly bytes: number;
  readonly rows: number;
  /** Wall-clock milliseconds of the oldest and of the newest row. */
  readonly from: number;
  readonly until: number;
  readonly model: string;
  readonly modelVersion: number;
  /** Of the function. */
  readonly functionVersion: string;
  /** Of the version that wrote it. */
  readonly retentionMs: number;
};

const TIME_DIGITS = 13;
const TIME_MAX = 10 ** TIME_DIGITS - 1;
/** Keys of a group's files begin with it. */
export const inferenceFilePrefix = (group: string): string => `${group}/`;
/** What comes after the prefix in keys of files that begin at `at` or later. */
export const inferenceFileTime = (at: number): string =>
  String(Math.min(TIME_MAX, Math.max(0, Math.floor(at)))).padStart(TIME_DIGITS, '0');
export const inferenceFileKey = ({ group, from }: InferenceFile, uuid: string): string =>
  `${inferenceFilePrefix(group)}${inferenceFileTime(from)}-${uuid}`;

/** What a group's figures compare: the document `drift/GROUP`. */
export type DriftSettings = {
  readonly reference: { readonly from: number; readonly until: number };
  /** The compared window ends now. */
  readonly windowMs: number;
};

export type ColumnDrift = {
  /** `input.sqft`, `output`, `output.price`. */
  readonly column: string;
  /** Population stability index; null where a side has no rows. */
  readonly psi: number | null;
  /** Two-sample Kolmogorov–Smirnov statistic; null for what has no order. */
  readonly ks: number | null;
};

export type DriftFigures = {
  readonly at: number;
  readonly referenceRows: number;
  readonly windowRows: number;
  readonly columns: readonly ColumnDrift[];
  /** Why there are none; null when there are. */
  readonly reason: string | null;
};

export type DriftRecord = {
  readonly group: string;
  readonly settings: DriftSettings;
  readonly figures: DriftFigures | null;
};
