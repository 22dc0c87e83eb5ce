/** The JSON shapes of the inference store and of drift (docs/decisions/0018-inference-store.md), as clients send and read them. */

export type InferenceFileJson = {
  /** Of the Parquet file, an artifact; `href` is where its bytes are read. */
  readonly digest: string;
  readonly href: string;
  readonly bytes: number;
  readonly rows: number;
  /** Of its oldest and of its newest row. */
  readonly from: string;
  readonly until: string;
  readonly model: string;
  readonly model_version: number;
  readonly function_version: string;
  readonly expires_at: string;
};

/** By time; `next` is the `after` of the following page, null behind the last. */
export type InferenceFilesJson = {
  readonly inference_files: readonly InferenceFileJson[];
  readonly next: string | null;
};

export type DriftRequestJson = {
  readonly reference: { readonly from: string; readonly until: string };
  /** The compared window ends now. */
  readonly window_ms: number;
};

export type ColumnDriftJson = {
  /** `input.sqft`, `output`, `output.price`. */
  readonly column: string;
  /** null where a side has no rows. */
  readonly psi: number | null;
  /** null for what has no order. */
  readonly ks: number | null;
};

export type DriftJson = DriftRequestJson & {
  /** null: none were computed yet. */
  readonly figures: {
    readonly at: string;
    readonly reference_rows: number;
    readonly window_rows: number;
    readonly columns: readonly ColumnDriftJson[];
    /** Why there are none. */
    readonly reason: string | null;
  } | null;
  /** When figures are computed next. */
  readonly due_at: string;
};
