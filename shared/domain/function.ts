/** The words of a function: what a deploy registers and what batching, retries and handlers read. */
import type { EngineSpec } from './engine.ts';
import type { InferenceStoreSpec } from './inference.ts';
import type { Backend, ContainerSpec, ModelBinding } from './model.ts';
import type { Scaling } from './scaling.ts';

/** An Arrow type in JSON: a name for what has no parameters, an object for what has (docs/API.md, "Types"). */
export type TypeJson =
  | string
  | { readonly list: FieldJson }
  | { readonly large_list: FieldJson }
  | { readonly fixed_size_list: FieldJson; readonly size: number }
  | { readonly struct: readonly FieldJson[] }
  | { readonly map: readonly [FieldJson, FieldJson] }
  | { readonly dictionary: TypeJson; readonly index: string; readonly ordered: boolean }
  | { readonly timestamp: TimeUnit; readonly tz: string | null }
  | { readonly time: TimeUnit }
  | { readonly duration: TimeUnit }
  | { readonly decimal: readonly [precision: number, scale: number]; readonly bits: 128 | 256 }
  | { readonly fixed_size_binary: number };

export type TimeUnit = 's' | 'ms' | 'us' | 'ns';

export type FieldJson = { readonly name: string; readonly type: TypeJson; readonly nullable: boolean };

/**
 * How a batch reaches the user's function: `columns` one argument per input column holding the whole batch,
 * `row` one call of the body per row, `table` one pyarrow.Table (or RecordBatch) as it came.
 */
export type InputMode = 'columns' | 'row' | 'table';

export type Batching = {
  /** Rows per batch at most. null: calls are delivered as they came, cut at `CALL_SAFETY_ROWS`. */
  readonly sizeRows: number | null;
  /** How long the oldest row may wait before its batch is due, in milliseconds. */
  readonly durationMs: number;
  readonly bytesMax: number;
};

export type RetryPolicy = {
  readonly retries: number;
  readonly initialMs: number;
  readonly multiplier: number;
  readonly maxMs: number;
  /** Share of the wait that is random, 0 to 1. */
  readonly jitter: number;
  /** Exception class names (any class in the MRO counts) that are retried; empty: all. */
  readonly retryOn: readonly string[];
  /** Exception class names that are terminal; wins over `retryOn`. */
  readonly terminalOn: readonly string[];
};

export type Isolation = 'bisect' | 'off';

export type ImageStep =
  | { readonly pip_install: readonly string[] }
  | { readonly apt_install: readonly string[] }
  | { readonly run: string };

export type Environment = {
  readonly base: string | null;
  readonly steps: readonly ImageStep[];
  readonly env: Readonly<Record<string, string>>;
  /** true: the process back end makes a virtual environment from the pip steps. */
  readonly isolated: boolean;
  /** Absolute path of the interpreter the deploy ran in; the process back end's default for Python. */
  readonly interpreter: string | null;
};

export type Resources = {
  readonly cpu: number | null;
  readonly memoryBytes: number | null;
  /** A device type and how many of them one replica has: `nvidia-l4`, `nvidia-tesla-t4:2`. */
  readonly gpu: string | null;
};

/** What callers of standard protocols may use it for: texts to vectors, or a prompt or messages to a text. */
export const TASKS = ['embedding', 'completion'] as const;
export type Task = (typeof TASKS)[number];

export type SourceFile = { readonly path: string; readonly content: string };

export type FunctionSpec = {
  readonly name: string;
  readonly runtime: 'python' | 'node' | 'container' | 'http';
  /** Where the handler lives inside `source`: a file path and the exported attribute. */
  readonly handler: { readonly file: string; readonly attribute: string };
  readonly inputMode: InputMode;
  /** null with `table` mode means any columns. A type may be "any" (rows of different schemas never share a batch). */
  readonly inputs: readonly FieldJson[] | null;
  readonly output: { readonly type: TypeJson; readonly nullable: boolean };
  readonly batching: Batching;
  readonly retry: RetryPolicy;
  readonly isolation: Isolation;
  readonly callTimeoutMs: number;
  readonly replicas: { readonly min: number; readonly max: number };
  readonly resources: Resources;
  readonly environment: Environment;
  readonly source: readonly SourceFile[];
  /** The model version that it serves; left out, or null, by a function of its own. */
  readonly model?: ModelBinding | null;
  /** With the runtime `container` only. */
  readonly container?: ContainerSpec | null;
  /** With the runtime `http` only. */
  readonly engine?: EngineSpec | null;
  /** What its replicas run as; left out: `process`. */
  readonly backend?: Backend;
  /** Left out: none. */
  readonly task?: Task;
  /** Left out: nothing is sampled. */
  readonly inferenceStore?: InferenceStoreSpec;
};

/** A registered version: immutable but for the batching limits, which a live update may change. */
export type FunctionVersion = {
  readonly id: number;
  /** First 12 hex digits of the SHA-256 of the canonical spec. */
  readonly digest: string;
  readonly createdAt: number;
  /** Its `source` is empty in a record; the registry gives that of one version. */
  readonly spec: FunctionSpec;
};

export type FunctionRecord = {
  readonly id: number;
  readonly name: string;
  readonly current: FunctionVersion;
  readonly versions: readonly FunctionVersion[];
  /** A version that starts beside the current one, and takes its place when it is ready; among `versions`. */
  readonly staged: FunctionVersion | null;
  /** null: the spec's minimum in each worker process. */
  readonly scaling: Scaling | null;
  readonly paused: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
};

/** One replica as its worker sees it. */
export type ReplicaFacts = {
  /** Stable while it lives: what logs and people call it. */
  readonly index: number;
  readonly state: 'starting' | 'ready' | 'failed' | 'stopping';
  readonly since: number;
  readonly reason: string | null;
  /** Process id, container name or pod name. */
  readonly place: string | null;
  readonly devices: readonly number[];
  readonly restarts: number;
  /** Rows of the batch that runs. */
  readonly runningRows: number;
  /** Of one core; null where it is not known. */
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
};

/** What one worker's process back end could not honour of a version, and what its replicas there are doing. */
export type ReplicaReport = {
  readonly workerId: string;
  readonly versionId: number;
  readonly ready: number;
  readonly starting: number;
  readonly failed: number;
  /** Why the handler cannot start, with the end of its traceback; null when it can. */
  readonly reason: string | null;
  /** Options that were asked for and are not honoured here (a GPU on a machine without one). */
  readonly ignored: readonly string[];
  /** Left out by a worker that refuses the version. */
  readonly replicas?: readonly ReplicaFacts[];
  /** The worker tells it again before this time; one that is dead does not, and its replicas are gone. */
  readonly until: number;
};
