/** The inference store: what is sampled of a function's rows, and what is kept of it (docs/decisions/0018). */
import type { Digest } from './model.ts';

export type InferenceStoreSpec = {
  /** Share of rows, above 0 to 1. */
  readonly sampleRate: number;
  /** A file is kept so long after its last row. */
  readonly retentionMs: number;
  /** Rows wait so long for their file at most. */
  readonly flushMs: number;
};

/** One Parquet file: the document `inference-file/GROUP/TIME-UUID`. */
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
