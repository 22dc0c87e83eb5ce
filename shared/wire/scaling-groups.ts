/** Scaling groups: what a deployment says into the domain's words, and back. */
import type { EngineSelector, PredictorValue } from '../domain/engine.ts';
import type { Isolation, Resources, RetryPolicy, Task } from '../domain/function.ts';
import type { InferenceStoreSpec } from '../domain/inference.ts';
import type { Backend, ModelImage } from '../domain/model.ts';
import { REPLICAS_MAX, type Scaling } from '../domain/scaling.ts';
import { engineSelectorOf } from './engines.ts';
import { predictorValuesOf } from './engines-variables.ts';
import { inferenceStoreOf } from './inference-store.ts';
import type { ScalingJson } from './model-api.ts';
import {
  BACKENDS,
  type ContainerStart,
  containerStartOf,
  imageOf,
  MODEL_NAME,
  MODEL_NAME_RULE,
} from './model-members.ts';
import { versionReference } from './models.ts';
import { type Bag, bagOf, refuse, refusedAs } from './option-bag.ts';
import { BATCHING_OPTIONS, resourcesOf, retryOf, taskOf, variablesOf } from './spec.ts';

const DAY_MS = 86_400_000;
const ROWS_MAX = 1_000_000;
const CPU_PERCENT_MAX = 10_000;
const TARGET_ROWS_MAX = 1_000_000_000;
/** What the wait for a full batch may cost a caller, where the deployment says nothing. */
const SIZE_ROWS = 1000;
const DURATION_MS = 10;

export type Limits = {
  readonly sizeRows: number;
  readonly durationMs: number;
  /** null: what the back end takes. */
  readonly bytesMax: number | null;
};

/** A deployment, whole and checked, but for what depends on the version that it names. */
export type Deployment = ContainerStart & {
  readonly model: string;
  /** As it was asked for: a number, an alias, `latest`; null: the latest. */
  readonly requested: number | string | null;
  readonly backend: Backend | null;
  readonly resources: Resources;
  readonly env: Readonly<Record<string, string>>;
  readonly image: ModelImage | null;
  readonly skipsArtifacts: boolean;
  readonly readyTimeoutMs: number;
  readonly limits: Limits;
  readonly retry: RetryPolicy;
  readonly isolation: Isolation;
  readonly callTimeoutMs: number;
  /** Left out by groups that were deployed before there were engines; null: the version serves itself. */
  readonly engine?: EngineSelector | null;
  /** As it was asked for, before the engine's schema casts it. */
  readonly predictorEnv?: Readonly<Record<string, PredictorValue>>;
  /** Left out by groups that were deployed before there were tasks. */
  readonly task?: Task | null;
  /** Left out by groups that were deployed before there was one; null: nothing is sampled. */
  readonly inferenceStore?: InferenceStoreSpec | null;
};

const DEPLOYMENT = [
  'model',
  'version',
  'backend',
  'scaling',
  'resources',
  'env',
  'image',
  'handler',
  'on_startup',
  'entrypoint',
  'port',
  'skip_artifacts',
  'ready_timeout_ms',
  ...BATCHING_OPTIONS,
  'retry',
  'isolation',
  'call_timeout_ms',
  'task',
  'engine_selector',
  'predictor_env_var',
  'inference_store',
] as const;

const invalid = <T>(check: () => T): T => refusedAs('invalid_scaling_group', check);

/** null and left out are the same: the default. */
const wholeNumber = (bag: Bag, name: string, min: number, max: number, fallback: number): number =>
  bag.optionalInteger(name, min, max) ?? fallback;

/** @throws SluiceError `invalid_scaling_group` */
export const compileDeployment = (
  value: unknown,
): { readonly deployment: Deployment; readonly scaling: Scaling } =>
  invalid(() => {
    const bag = bagOf(value, '', DEPLOYMENT);
    const backend = bag.raw('backend') ?? null;
    const deployment: Deployment = {
      model: bag.pattern('model', MODEL_NAME, MODEL_NAME_RULE),
      requested: requestedOf(bag.raw('version')),
      backend: backend === null ? null : bag.choice('backend', BACKENDS),
      resources: resourcesOf(bag.raw('resources')),
      env: variablesOf(bag.raw('env'), 'env'),
      image: imageOf(bag.raw('image'), 'image'),
      ...containerStartOf(bag),
      skipsArtifacts: bag.flag('skip_artifacts', false),
      readyTimeoutMs: wholeNumber(bag, 'ready_timeout_ms', 1000, 7 * DAY_MS, 900_000),
      limits: {
        sizeRows: wholeNumber(bag, 'max_batching_size', 1, ROWS_MAX, SIZE_ROWS),
        durationMs: wholeNumber(bag, 'max_buffer_duration', 0, DAY_MS, DURATION_MS),
        bytesMax: bag.optionalInteger('max_batch_bytes', 1024, 2 ** 30),
      },
      retry: retryOf(bag.raw('retry')),
      isolation: bag.choice('isolation', ['bisect', 'off'] as const, 'bisect'),
      callTimeoutMs: wholeNumber(bag, 'call_timeout_ms', 1, 7 * DAY_MS, 300_000),
      task: taskOf(bag) ?? null,
      engine: engineSelectorOf(bag.raw('engine_selector')),
      predictorEnv: predictorValuesOf(bag.raw('predictor_env_var'), 'predictor_env_var'),
      inferenceStore: inferenceStoreOf(bag.raw('inference_store')),
    };
    return { deployment, scaling: scalingOf(bag.raw('scaling')) };
  });

const requestedOf = (value: unknown): number | string | null => {
  if (versionReference(value) === null)
    refuse('version', value, 'a version number, an alias, "latest", or null for the latest');
  return (value ?? null) as number | string | null;
};

const SCALING = [
  'min_replicas',
  'max_replicas',
  'target_rows',
  'target_wait_ms',
  'target_cpu_percent',
  'scale_down_ms',
  'idle_ms',
] as const;

const scalingOf = (value: unknown): Scaling => {
  const bag = bagOf(value ?? {}, 'scaling', SCALING);
  const minReplicas = wholeNumber(bag, 'min_replicas', 0, REPLICAS_MAX, 1);
  const maxReplicas = wholeNumber(bag, 'max_replicas', 1, REPLICAS_MAX, Math.max(1, minReplicas));
  if (maxReplicas < minReplicas)
    refuse('scaling.max_replicas', maxReplicas, `at least min_replicas (${minReplicas})`);
  return {
    minReplicas,
    maxReplicas,
    targetRows: bag.optionalInteger('target_rows', 1, TARGET_ROWS_MAX),
    targetWaitMs: bag.optionalInteger('target_wait_ms', 0, DAY_MS),
    targetCpuPercent: bag.optionalNumber('target_cpu_percent', 1, CPU_PERCENT_MAX),
    scaleDownMs: wholeNumber(bag, 'scale_down_ms', 0, DAY_MS, 300_000),
    idleMs: wholeNumber(bag, 'idle_ms', 0, DAY_MS, 60_000),
  };
};

export const presentScaling = (scaling: Scaling): ScalingJson => ({
  min_replicas: scaling.minReplicas,
  max_replicas: scaling.maxReplicas,
  target_rows: scaling.targetRows,
  target_wait_ms: scaling.targetWaitMs,
  target_cpu_percent: scaling.targetCpuPercent,
  scale_down_ms: scaling.scaleDownMs,
  idle_ms: scaling.idleMs,
});

export type GroupPatch = {
  /** On top of what holds. */
  readonly scaling: ((now: Scaling) => Scaling) | null;
  /** null: the batching limits stay. */
  readonly limits: Readonly<Record<string, unknown>> | null;
};

/** @throws SluiceError `invalid_scaling_group` */
export const compileGroupPatch = (value: unknown): GroupPatch =>
  invalid(() => {
    const bag = bagOf(value, '', ['scaling', ...BATCHING_OPTIONS]);
    const given = BATCHING_OPTIONS.filter((option) => bag.raw(option) !== undefined);
    const scaling = bag.raw('scaling') ?? null;
    if (scaling === null && given.length === 0)
      refuse('scaling', undefined, 'a part of the scaling, or batching limits');
    if (scaling !== null) bagOf(scaling, 'scaling', SCALING);
    return {
      scaling:
        scaling === null
          ? null
          : (now) => invalid(() => scalingOf({ ...presentScaling(now), ...(scaling as object) })),
      limits:
        given.length === 0 ? null : Object.fromEntries(given.map((option) => [option, bag.raw(option)])),
    };
  });

/** @throws SluiceError `invalid_scaling_group` */
export const compileGroupName = (value: unknown): string =>
  invalid(() =>
    typeof value === 'string' && MODEL_NAME.test(value) ? value : refuse('name', value, MODEL_NAME_RULE),
  );
