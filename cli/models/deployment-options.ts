/** Options of the command line as a DEPLOYMENT. */
import type { DeploymentJson, GroupPatchJson, ScalingGroupJson, ScalingJson } from '../../sdk/index.ts';
import { UsageError } from '../failure.ts';
import { inferenceStoreOf, type StoreOptions } from '../inferences/store-options.ts';

export type ScalingOptions = {
  readonly minReplicas?: number;
  readonly maxReplicas?: number;
  readonly targetRows?: number;
  readonly targetWait?: number;
  readonly targetCpu?: number;
  readonly scaleDown?: number;
  readonly idle?: number;
  readonly maxBatchingSize?: number;
  readonly maxBufferDuration?: number;
  readonly maxBatchBytes?: number;
};

export type DeployOptions = ScalingOptions &
  StoreOptions & {
    readonly modelVersion?: string;
    readonly backend?: string;
    readonly cpu?: number;
    readonly memory?: string;
    readonly gpu?: string;
    readonly env?: readonly string[];
    readonly image?: string;
    readonly handler?: string;
    readonly onStartup?: string;
    readonly port?: number;
    readonly skipArtifacts?: boolean;
    readonly readyTimeout?: number;
    readonly engine?: string;
    readonly predictor?: readonly string[];
  };

const BACKENDS = ['process', 'container', 'kubernetes'] as const;
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
  Ti: 1024 ** 4,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
};

/** '2Gi' → 2147483648 */
export const memoryBytes = (text: string): number => {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([KMGT]i|[kMGT])?$/.exec(text) ?? [];
  if (number === undefined) throw new UsageError(`--memory is ${text}; give bytes, or such as 512Mi or 2Gi.`);
  return Math.round(Number(number) * UNITS[unit ?? '']!);
};

/** Without what was not given, so that the server's defaults hold. */
const given = <T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as never;

const scalingOf = (options: ScalingOptions): Partial<ScalingJson> | undefined => {
  const scaling = given({
    min_replicas: options.minReplicas,
    max_replicas: options.maxReplicas,
    target_rows: options.targetRows,
    target_wait_ms: options.targetWait,
    target_cpu_percent: options.targetCpu,
    scale_down_ms: options.scaleDown,
    idle_ms: options.idle,
  });
  return Object.keys(scaling).length === 0 ? undefined : scaling;
};

const limitsOf = (options: ScalingOptions) =>
  given({
    max_batching_size: options.maxBatchingSize,
    max_buffer_duration: options.maxBufferDuration,
    max_batch_bytes: options.maxBatchBytes,
  });

export const patchOf = (options: ScalingOptions): GroupPatchJson => {
  const patch = given({ scaling: scalingOf(options), ...limitsOf(options) });
  if (Object.keys(patch).length === 0)
    throw new UsageError('Give what to change, such as --min-replicas or --max-batching-size; see --help.');
  return patch;
};

const environmentOf = (texts: readonly string[], option = '--env'): Record<string, string> =>
  Object.fromEntries(
    texts.map((text) => {
      const equals = text.indexOf('=');
      if (equals < 1) throw new UsageError(`${option} ${text} is not NAME=value.`);
      return [text.slice(0, equals), text.slice(equals + 1)];
    }),
  );

/** 'vision/onnx', 'vision/onnx@2' */
const selectorOf = (text: string): DeploymentJson['engine_selector'] => {
  const [, project, engine, version] = /^([^/@]+)\/([^/@]+)(?:@([^/@]+))?$/.exec(text) ?? [];
  if (project === undefined || engine === undefined)
    throw new UsageError(`--engine is ${text}; give PROJECT/NAME, or PROJECT/NAME@VERSION.`);
  return { project_name: project, engine_name: engine, version: version ?? null };
};

const resourcesOf = ({ cpu, memory, gpu }: DeployOptions): DeploymentJson['resources'] => {
  if (cpu !== undefined && !(cpu > 0))
    throw new UsageError('--cpu takes a number above 0, such as 0.5 or 4.');
  const resources = given({ cpu, memory_bytes: memory === undefined ? undefined : memoryBytes(memory), gpu });
  return Object.keys(resources).length === 0 ? undefined : resources;
};

const backendOf = (text: string | undefined): DeploymentJson['backend'] | undefined => {
  if (text === undefined) return undefined;
  const backend = BACKENDS.find((name) => name === text);
  if (!backend) throw new UsageError(`--backend is ${text}; give one of ${BACKENDS.join(', ')}.`);
  return backend;
};

/** A number stays one; everything else is an alias. */
const versionOf = (text: string | undefined): number | string | undefined =>
  text !== undefined && /^\d+$/.test(text) ? Number(text) : text;

export const deploymentOf = (model: string, options: DeployOptions): DeploymentJson => ({
  model,
  ...given({
    version: versionOf(options.modelVersion),
    backend: backendOf(options.backend),
    scaling: scalingOf(options),
    resources: resourcesOf(options),
    env: options.env === undefined ? undefined : environmentOf(options.env),
    image: options.image === undefined ? undefined : { reference: options.image },
    handler: options.handler,
    on_startup: options.onStartup,
    port: options.port,
    skip_artifacts: options.skipArtifacts,
    ready_timeout_ms: options.readyTimeout,
    engine_selector: options.engine === undefined ? undefined : selectorOf(options.engine),
    predictor_env_var:
      options.predictor === undefined ? undefined : environmentOf(options.predictor, '--predictor'),
    inference_store: inferenceStoreOf(options),
    ...limitsOf(options),
  }),
});

/** Members that are not named stay as they are. */
const storeAfter = (
  { inference_store: before }: ScalingGroupJson,
  { inference_store: wanted }: DeploymentJson,
): Exclude<DeploymentJson['inference_store'], undefined> => {
  if (wanted === undefined) return before;
  return wanted && { ...before, ...wanted };
};

/** The same group with what is given: what the group shows of itself is kept, and so is its version, since the latest may be untried. */
export const updateOf = (group: ScalingGroupJson, options: DeployOptions): DeploymentJson => {
  const wanted = deploymentOf(group.model, options);
  if (Object.keys(wanted).length === 1)
    throw new UsageError('Give what to change, such as --model-version latest or --cpu 2; see --help.');
  return {
    version: group.update?.version ?? group.version,
    backend: group.backend,
    max_batching_size: group.max_batching_size,
    max_buffer_duration: group.max_buffer_duration,
    max_batch_bytes: group.max_batch_bytes,
    retry: group.retry,
    isolation: group.isolation,
    call_timeout_ms: group.call_timeout_ms,
    ready_timeout_ms: group.ready_timeout_ms,
    task: group.task,
    env: group.env,
    image: group.image,
    handler: group.handler,
    on_startup: group.on_startup,
    entrypoint: group.entrypoint,
    port: group.port,
    skip_artifacts: group.skip_artifacts,
    engine_selector: group.engine_selector,
    predictor_env_var: group.predictor_env_var,
    ...wanted,
    inference_store: storeAfter(group, wanted),
    scaling: { ...group.scaling, ...wanted.scaling },
    resources: { ...group.resources, ...wanted.resources },
  };
};
