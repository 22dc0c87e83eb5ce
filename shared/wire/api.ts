/** The JSON shapes of docs/API.md, as clients send and read them. */
import type { CallStatus, RowCounts } from '../domain/call.ts';
import type { FieldJson, ImageStep, Task, TypeJson } from '../domain/function.ts';
import type { EngineMemberJson } from './engine-member.ts';
import type { InferenceStoreJson } from './inference-store.ts';
import type { BackendName, ModelFileJson, ModelImageJson } from './model-api.ts';

export const ARROW_STREAM = 'application/vnd.apache.arrow.stream';
export const PROBLEM_JSON = 'application/problem+json';

export type CallJson = {
  readonly call_id: string;
  readonly function: string;
  readonly version: string;
  readonly status: CallStatus;
  readonly rows: number;
  readonly counts: RowCounts & { readonly unfinished: number };
  readonly lane: string;
  readonly priority: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly arrived_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly deadline_at: string | null;
  readonly expires_at: string | null;
  readonly queue_ms: number | null;
  readonly handler_ms: number;
  readonly durability: string;
  /** true: an earlier submission with the same idempotency key made this call. */
  readonly attached?: boolean;
};

/** An error of one row, or in JSON results of a run of `count` rows from `from` on. */
export type RowErrorJson = {
  readonly code: string;
  readonly message: string;
  readonly kind?: string;
  readonly traceback?: string;
};

export type ResultJson = {
  readonly call_id: string;
  readonly status: CallStatus;
  readonly rows: number;
  readonly counts: CallJson['counts'];
  readonly result: readonly unknown[];
  readonly errors: readonly (RowErrorJson & { readonly from: number; readonly count: number })[];
};

export type RetryJson = {
  readonly retries?: number;
  readonly initial_ms?: number;
  readonly multiplier?: number;
  readonly max_ms?: number;
  readonly jitter?: number;
  readonly retry_on?: readonly string[];
  readonly terminal_on?: readonly string[];
};

export type SpecJson = {
  readonly name: string;
  readonly runtime: 'python' | 'node' | 'container' | 'http';
  /** Left out by a container with a handler of its own, and by an engine. */
  readonly handler?: { readonly file: string; readonly attribute: string };
  readonly input_mode?: 'columns' | 'row' | 'table';
  readonly inputs: readonly FieldJson[] | null;
  readonly output: { readonly type: TypeJson; readonly nullable: boolean };
  readonly max_batching_size?: number | null;
  readonly max_buffer_duration?: number | null;
  readonly max_batch_bytes?: number;
  readonly retry?: RetryJson;
  readonly isolation?: 'bisect' | 'off';
  readonly call_timeout_ms?: number;
  readonly min_replicas?: number;
  readonly max_replicas?: number;
  readonly resources?: {
    readonly cpu?: number | null;
    readonly memory_bytes?: number | null;
    readonly gpu?: string | null;
  };
  readonly environment?: {
    readonly base?: string | null;
    readonly steps?: readonly ImageStep[];
    readonly env?: Readonly<Record<string, string>>;
    readonly isolated?: boolean;
    readonly interpreter?: string | null;
  };
  readonly source: readonly { readonly path: string; readonly content: string }[];
  readonly model?: {
    readonly name: string;
    readonly version: number;
    readonly files: readonly ModelFileJson[];
    readonly loader: Readonly<Record<string, unknown>> | null;
  };
  readonly container?: {
    readonly image: ModelImageJson;
    readonly entrypoint: readonly string[] | null;
    readonly port: number;
    readonly handler: string | null;
    readonly on_startup: string | null;
  };
  readonly engine?: EngineMemberJson;
  readonly backend?: BackendName;
  readonly task?: Task | null;
  /** Of scaling groups' functions. */
  readonly inference_store?: InferenceStoreJson | null;
};

export type FunctionJson = {
  readonly name: string;
  readonly version: string;
  readonly versions: readonly { readonly version: string; readonly created_at: string }[];
  readonly paused: boolean;
  readonly spec: Omit<SpecJson, 'source'>;
  readonly queue: {
    readonly waiting_calls: number;
    readonly waiting_rows: number;
    readonly sealed_rows: number;
    readonly oldest_ms: number | null;
  };
  readonly replicas: readonly {
    readonly version: string;
    readonly ready: number;
    readonly starting: number;
    readonly failed: number;
    readonly reason: string | null;
    readonly ignored: readonly string[];
  }[];
  readonly created_at: string;
  readonly updated_at: string;
};

export type LogLineJson = {
  readonly at: string;
  readonly replica: number;
  readonly stream: 'stdout' | 'stderr';
  readonly text: string;
};

export type KeyScope = 'call' | 'deploy' | 'admin';

export type KeyJson = {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly KeyScope[];
  readonly prefix: string;
  readonly created_at: string;
  /** In the answer that made the key, and never again. */
  readonly secret?: string;
};

export type ServerJson = {
  readonly version: string;
  readonly store: string;
  readonly durability: string;
  readonly generation: string;
  readonly usage: Readonly<Record<string, unknown>>;
};

export type ProblemJson = {
  readonly type?: string;
  readonly title?: string;
  readonly status?: number;
  readonly detail?: string;
  readonly code?: string;
  readonly retryable?: boolean;
  readonly fix?: string;
};
