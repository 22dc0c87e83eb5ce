/** The JSON shapes of models, their versions and scaling groups (docs/API.md), as clients send and read them. */
import type { FieldJson, Task } from '../domain/function.ts';
import type { RetryJson } from './api.ts';
import type { EngineSelectorJson } from './engines-api.ts';
import type { InferenceStoreJson } from './inference-store.ts';

export type ModelFileJson = { readonly path: string; readonly digest: string; readonly bytes: number };

export type ModelImageJson =
  | { readonly reference: string }
  | { readonly containerfile: string; readonly context: readonly ModelFileJson[] };

/** What an imported model is called in the world of its inference engine; `class_labels`: label → index. */
export type ModelImportJson = {
  readonly project: string;
  readonly summary: string;
  readonly version: string | null;
  readonly task_type: string | null;
  readonly class_labels: Readonly<Record<string, number>>;
};

export type RegistrationJson = {
  /** Without `import` there is at least one; empty, or left out: any columns. */
  readonly inputs?: readonly FieldJson[] | null;
  /** Without `import` there is at least one; empty, or left out: JSON. */
  readonly outputs?: readonly FieldJson[] | null;
  readonly handler?: { readonly file: string; readonly attribute: string } | null;
  readonly source?: readonly { readonly path: string; readonly content: string }[];
  readonly files?: readonly ModelFileJson[];
  readonly loader?: Readonly<Record<string, unknown>> | null;
  readonly dependencies?: readonly string[];
  readonly interpreter?: string | null;
  readonly image?: ModelImageJson | null;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly stage?: string | null;
  readonly aliases?: readonly string[];
  readonly import?: (Partial<ModelImportJson> & { readonly project: string }) | null;
};

export type ModelVersionJson = {
  readonly model: string;
  readonly version: number;
  readonly inputs: readonly FieldJson[];
  readonly outputs: readonly FieldJson[];
  readonly handler: { readonly file: string; readonly attribute: string } | null;
  /** Left out in lists. */
  readonly source?: readonly { readonly path: string; readonly content: string }[];
  readonly files: readonly ModelFileJson[];
  readonly loader: Readonly<Record<string, unknown>> | null;
  readonly dependencies: readonly string[];
  readonly interpreter: string | null;
  readonly image: ModelImageJson | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly stage: string | null;
  /** Left out by what was not imported. */
  readonly import?: ModelImportJson;
  /** Those that point to it now. */
  readonly aliases: readonly string[];
  /** Scaling groups that run it, or are about to. */
  readonly used_by: readonly string[];
  readonly created_at: string;
};

export type ModelJson = {
  readonly name: string;
  readonly description: string;
  /** null: every version was deleted. */
  readonly latest_version: number | null;
  readonly versions: readonly number[];
  readonly aliases: Readonly<Record<string, number>>;
  readonly created_at: string;
  readonly updated_at: string;
};

/** `from` and `to` are digests, null where the file is not there. */
export type FileChangeJson = {
  readonly path: string;
  readonly change: 'added' | 'removed' | 'changed';
  readonly from: string | null;
  readonly to: string | null;
};

export type ComparisonJson = {
  readonly from: number;
  readonly to: number;
  readonly differences: readonly { readonly field: string; readonly from: unknown; readonly to: unknown }[];
  readonly files: readonly FileChangeJson[];
  readonly source: readonly FileChangeJson[];
};

export type ScalingJson = {
  readonly min_replicas: number;
  readonly max_replicas: number;
  readonly target_rows: number | null;
  readonly target_wait_ms: number | null;
  readonly target_cpu_percent: number | null;
  readonly scale_down_ms: number;
  readonly idle_ms: number;
};

export type BackendName = 'process' | 'container' | 'kubernetes';

export type GroupResourcesJson = {
  readonly cpu: number | null;
  readonly memory_bytes: number | null;
  readonly gpu: string | null;
};

/** Everything but `model` may be left out, or null. */
export type DeploymentJson = {
  readonly model: string;
  /** A number, an alias, `latest`; null: the latest. */
  readonly version?: number | string | null;
  readonly backend?: BackendName | null;
  readonly scaling?: Partial<ScalingJson> | null;
  readonly resources?: Partial<GroupResourcesJson> | null;
  readonly env?: Readonly<Record<string, string>> | null;
  readonly image?: ModelImageJson | null;
  readonly handler?: string | null;
  readonly on_startup?: string | null;
  readonly entrypoint?: readonly string[] | null;
  readonly port?: number | null;
  readonly skip_artifacts?: boolean | null;
  readonly ready_timeout_ms?: number | null;
  readonly max_batching_size?: number | null;
  readonly max_buffer_duration?: number | null;
  readonly max_batch_bytes?: number | null;
  readonly retry?: RetryJson | null;
  readonly isolation?: 'bisect' | 'off' | null;
  readonly call_timeout_ms?: number | null;
  readonly engine_selector?: EngineSelectorJson | null;
  /** Cast by the engine's schema; null is left out. */
  readonly predictor_env_var?: Readonly<Record<string, string | number | boolean | null>> | null;
  readonly task?: Task | null;
  readonly inference_store?: Partial<InferenceStoreJson> | null;
};

export type GroupPatchJson = {
  readonly scaling?: Partial<ScalingJson>;
  readonly max_batching_size?: number | null;
  readonly max_buffer_duration?: number | null;
  readonly max_batch_bytes?: number | null;
};

export type ReplicaJson = {
  /** Of the model; null when the group has forgotten it. */
  readonly version: number | null;
  readonly index: number;
  readonly state: 'starting' | 'ready' | 'failed' | 'stopping';
  readonly since: string;
  readonly reason: string | null;
  /** Process id, container name or pod name. */
  readonly place: string | null;
  readonly devices: readonly number[];
  readonly restarts: number;
  readonly running_rows: number;
  readonly cpu_percent: number | null;
  readonly memory_bytes: number | null;
  readonly worker: string;
};

export const GROUP_STATES = ['starting', 'ready', 'updating', 'degraded', 'failed', 'idle'] as const;
export type GroupState = (typeof GROUP_STATES)[number];

export const EVENT_KINDS = [
  'deployed',
  'updating',
  'updated',
  'rolled_back',
  'scaled',
  'paused',
  'resumed',
  'ready',
  'degraded',
  'failed',
  'idle',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

export type GroupEventJson = { readonly at: string; readonly kind: EventKind; readonly text: string };

export type ScalingGroupJson = {
  readonly name: string;
  /** `model.<name>`: what is called. */
  readonly function: string;
  readonly model: string;
  readonly version: number;
  readonly requested_version: number | string | null;
  readonly backend: BackendName;
  readonly state: GroupState;
  readonly reason: string | null;
  readonly paused: boolean;
  readonly replicas: {
    readonly ready: number;
    readonly starting: number;
    readonly failed: number;
    readonly details: readonly ReplicaJson[];
  };
  readonly update: {
    readonly version: number;
    readonly since: string;
    readonly reason: string | null;
  } | null;
  readonly scaling: ScalingJson;
  readonly resources: GroupResourcesJson;
  readonly env: Readonly<Record<string, string>>;
  /** In place of the version's, as its deployment said; null: the version's own. So `handler` to `entrypoint`. */
  readonly image: ModelImageJson | null;
  readonly handler: string | null;
  readonly on_startup: string | null;
  readonly entrypoint: readonly string[] | null;
  /** Where an image listens. */
  readonly port: number;
  readonly skip_artifacts: boolean;
  readonly inputs: readonly FieldJson[];
  readonly outputs: readonly FieldJson[];
  readonly max_batching_size: number | null;
  readonly max_buffer_duration: number | null;
  readonly max_batch_bytes: number;
  readonly retry: Required<RetryJson>;
  readonly isolation: 'bisect' | 'off';
  readonly call_timeout_ms: number;
  readonly ready_timeout_ms: number;
  readonly task: Task | null;
  /** As it was asked for; null: the version serves itself. */
  readonly engine_selector: Required<EngineSelectorJson> | null;
  /** What serves it, and the predictor's variables with defaults, cast. */
  readonly engine: {
    readonly project: string;
    readonly name: string;
    readonly version: string;
    readonly predictor_env: Readonly<Record<string, string>>;
  } | null;
  /** As they were asked for. */
  readonly predictor_env_var: Readonly<Record<string, string | number | boolean>>;
  /** null: nothing is sampled. */
  readonly inference_store: InferenceStoreJson | null;
  /** Oldest first, the newest 100. */
  readonly events: readonly GroupEventJson[];
  readonly created_at: string;
  readonly updated_at: string;
};
