/** A deploy's SPEC (docs/API.md) into a whole, validated FunctionSpec, and back. Errors name option, value and what is allowed. */
import { parseType } from '../arrow/index.ts';
import { hasAny } from '../arrow/type-text.ts';
import {
  type Batching,
  type Environment,
  type FieldJson,
  type FunctionSpec,
  type ImageStep,
  type Resources,
  type RetryPolicy,
  type SourceFile,
  TASKS,
  type Task,
  type TypeJson,
} from '../domain/function.ts';
import type { ContainerSpec } from '../domain/model.ts';
import type { SpecJson } from './api.ts';
import { checkEngine, engineOf, presentEngine } from './engine-member.ts';
import { sourceOf } from './files.ts';
import { presentInferenceStore } from './inference-store.ts';
import { BACKENDS, bindingOf, containerOf, presentContainer } from './model-members.ts';
import { checkTask } from './openai/task-shape.ts';
import { type Bag, bagOf, refuse } from './option-bag.ts';

/** A name goes into URLs, metrics and directories. */
const NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,127}$/;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,255}$/;
const KiB = 1024;
const DAY_MS = 86_400_000;
const ROWS_MAX = 1_000_000;
const INPUTS_MAX = 1000;
/** A frame to a handler process holds 2 GiB; half of it leaves room for what surrounds the rows. */
const BATCH_BYTES_MAX = 2 ** 30;
const BATCH_BYTES = 64 * 2 ** 20;
/** A container takes messages of 32 MiB, and what surrounds the rows needs some of it (docs/decisions/0013). */
const CONTAINER_BATCH_BYTES_MAX = 31 * 2 ** 20;
const CONTAINER_BATCH_BYTES = 16 * 2 ** 20;
const REPLICAS_MAX = 1000;
const STEPS_MAX = 200;
const SIZE_ONLY_MS = 1000;
const DURATION_ONLY_ROWS = 1000;
const DEFAULT_RETRY: RetryPolicy = {
  retries: 3,
  initialMs: 200,
  multiplier: 2,
  maxMs: 30_000,
  jitter: 0.2,
  retryOn: [],
  terminalOn: [],
};

const OPTIONS = [
  'name',
  'runtime',
  'handler',
  'input_mode',
  'inputs',
  'output',
  'max_batching_size',
  'max_buffer_duration',
  'max_batch_bytes',
  'retry',
  'isolation',
  'call_timeout_ms',
  'min_replicas',
  'max_replicas',
  'resources',
  'environment',
  'source',
  'model',
  'container',
  'engine',
  'backend',
  'task',
  'inference_store',
] as const;

/**
 * @param value the body's `function` member, of any shape
 * @throws SluiceError `invalid_function`
 */
export const compileSpec = (value: unknown): FunctionSpec => {
  const bag = bagOf(value, '', OPTIONS);
  const runtime = bag.choice('runtime', ['python', 'node', 'container', 'http'] as const);
  const inputMode = bag.choice('input_mode', ['columns', 'row', 'table'] as const, 'columns');
  if ((bag.raw('inference_store') ?? null) !== null)
    refuse('inference_store', bag.raw('inference_store'), 'null: scaling groups alone have one');
  const source = sourceOf(bag, runtime === 'python' || runtime === 'node');
  const served = servedOf(bag, runtime);
  return withTask(bag, {
    name: bag.pattern('name', NAME, 'letters, digits, _ . and -, beginning with a letter, at most 128'),
    runtime,
    handler: handlerOf(bag, source, runtime),
    inputMode,
    inputs: inputsOf(bag.raw('inputs'), inputMode),
    output: outputOf(bag.bag('output', ['type', 'nullable'])),
    batching: compileBatching(bag, isContained({ runtime, ...served })),
    retry: retryOf(bag.raw('retry')),
    isolation: bag.choice('isolation', ['bisect', 'off'] as const, 'bisect'),
    callTimeoutMs: bag.integer('call_timeout_ms', 1, 7 * DAY_MS, 300_000),
    replicas: replicasOf(bag),
    resources: resourcesOf(bag.raw('resources')),
    environment: environmentOf(bag.raw('environment')),
    source,
    ...served,
  });
};

/** A spec without a task lacks the member, so that its digest stays what it was. */
const withTask = (bag: Bag, spec: FunctionSpec): FunctionSpec => {
  const task = taskOf(bag);
  if (task === null) return spec;
  checkTask(task, spec.inputs, spec.output.type);
  return { ...spec, task };
};

export const taskOf = (bag: Bag): Task | null =>
  (bag.raw('task') ?? null) === null ? null : bag.choice('task', TASKS);

/** What only functions of models and containers have. The others lack the members, so that their digests stay what they were. */
const servedOf = (
  bag: Bag,
  runtime: FunctionSpec['runtime'],
): Pick<FunctionSpec, 'model' | 'container' | 'engine' | 'backend'> => {
  const model = bindingOf(bag.raw('model'));
  const container = containerOf(bag.raw('container'));
  const engine = engineOf(bag.raw('engine'));
  const fallback = runtime === 'container' ? 'container' : 'process';
  const backend = bag.choice('backend', BACKENDS, fallback);
  checkContainer(runtime, container, backend);
  checkEngine(engine, runtime, backend);
  return {
    ...(model === null ? {} : { model }),
    ...(container === null ? {} : { container }),
    ...(engine === null ? {} : { engine }),
    ...(backend === 'process' ? {} : { backend }),
  };
};

const checkContainer = (
  runtime: FunctionSpec['runtime'],
  container: ContainerSpec | null,
  backend: string,
): void => {
  if (runtime !== 'container') {
    if (container !== null) refuse('container', container, `null with the runtime "${runtime}"`);
    if (runtime === 'node' && backend !== 'process')
      refuse('backend', backend, '"process" with the runtime "node"');
    return;
  }
  if (container === null) refuse('container', null, 'how it is started, with the runtime "container"');
  if (backend === 'process') refuse('backend', backend, '"container" or "kubernetes" for a container');
};

/** Whether its batches go to a replica over gRPC. */
export const isContained = ({
  backend,
  runtime,
}: Partial<Pick<FunctionSpec, 'backend' | 'runtime'>>): boolean =>
  runtime !== 'http' && backend !== undefined && backend !== 'process';

/** Batching limits with the defaults that depend on each other; also for a live update of a part of them. */
export const compileBatching = (bag: Bag, isInContainer: boolean = false): Batching => {
  const size = bag.optionalInteger('max_batching_size', 1, ROWS_MAX);
  const duration = bag.optionalInteger('max_buffer_duration', 0, DAY_MS);
  const bytesMax = isInContainer
    ? bag.integer('max_batch_bytes', KiB, CONTAINER_BATCH_BYTES_MAX, CONTAINER_BATCH_BYTES)
    : bag.integer('max_batch_bytes', KiB, BATCH_BYTES_MAX, BATCH_BYTES);
  if (size === null && duration === null) return { sizeRows: null, durationMs: 0, bytesMax };
  return { sizeRows: size ?? DURATION_ONLY_ROWS, durationMs: duration ?? SIZE_ONLY_MS, bytesMax };
};

export const BATCHING_OPTIONS = ['max_batching_size', 'max_buffer_duration', 'max_batch_bytes'] as const;

export const batchingJson = (
  batching: Batching,
): Pick<SpecJson, 'max_batching_size' | 'max_buffer_duration' | 'max_batch_bytes'> => ({
  max_batching_size: batching.sizeRows,
  max_buffer_duration: batching.sizeRows === null ? null : batching.durationMs,
  max_batch_bytes: batching.bytesMax,
});

/** A part of the limits, as PATCH sends it, on top of what holds now. */
export const updatedBatching = (current: Batching, patch: unknown, isInContainer = false): Batching => {
  const given = bagOf(patch, '', BATCHING_OPTIONS);
  const merged: Record<string, unknown> = { ...batchingJson(current) };
  for (const option of BATCHING_OPTIONS)
    if (given.raw(option) !== undefined) merged[option] = given.raw(option);
  return compileBatching(bagOf(merged, '', BATCHING_OPTIONS), isInContainer);
};

const inputsOf = (value: unknown, mode: string): readonly FieldJson[] | null => {
  if (value === null) {
    if (mode === 'table') return null;
    return refuse(
      'inputs',
      value,
      'a list of fields; null (any columns) goes with the input_mode "table" only',
    );
  }
  return fieldsOf(value, 'inputs', false);
};

/** Columns by name: a function's inputs, a model's inputs and outputs. */
export const fieldsOf = (value: unknown, where: string, isNullable: boolean): readonly FieldJson[] => {
  if (!Array.isArray(value) || value.length > INPUTS_MAX) {
    const shown = Array.isArray(value) ? `${value.length} fields` : value;
    return refuse(where, shown, `a list of at most ${INPUTS_MAX} fields {"name", "type", "nullable"}`);
  }
  if (value.length === 0) return refuse(where, value, 'at least one field: a row needs a value');
  const names = new Set<string>();
  return value.map((field: unknown, i): FieldJson => {
    const bag = bagOf(field, `${where}[${i}]`, ['name', 'type', 'nullable']);
    const name = bag.text('name', 1, 256);
    if (names.has(name)) refuse(`${where}[${i}].name`, name, 'a name that no other field has');
    names.add(name);
    return {
      name,
      type: parseType(bag.raw('type'), `${where}[${i}].type`),
      nullable: bag.flag('nullable', isNullable),
    };
  });
};

const outputOf = (bag: Bag): FunctionSpec['output'] => ({
  type: outputType(parseType(bag.raw('type'), 'output.type'), 'output.type'),
  nullable: bag.flag('nullable', true),
});

/** The type, which is one type: `any` is an input's. */
export const outputType = (type: TypeJson, where: string): TypeJson =>
  hasAny(type) ? refuse(where, type, 'a type of its own: answers are stored as one type') : type;

const NO_HANDLER = { file: '', attribute: '' };

const handlerOf = (
  bag: Bag,
  source: readonly SourceFile[],
  runtime: FunctionSpec['runtime'],
): FunctionSpec['handler'] => {
  // An image brings its own handler, and so does an engine.
  if ((runtime === 'container' || runtime === 'http') && (bag.raw('handler') ?? null) === null)
    return NO_HANDLER;
  return handlerIn(bag.bag('handler', ['file', 'attribute']), source);
};

export const handlerIn = (handler: Bag, source: readonly SourceFile[]): FunctionSpec['handler'] => {
  const file = handler.text('file', 1, 1024);
  const attribute = handler.text('attribute', 1, 256);
  if (!source.some(({ path }) => path === file)) {
    const known = source.map(({ path }) => path).join(', ');
    refuse('handler.file', file, `one of the source files: ${known.slice(0, 1000) || '(there are none)'}`);
  }
  return { file, attribute };
};

export const retryOf = (value: unknown): RetryPolicy => {
  if (value === undefined || value === null) return DEFAULT_RETRY;
  const bag = bagOf(value, 'retry', [
    'retries',
    'initial_ms',
    'multiplier',
    'max_ms',
    'jitter',
    'retry_on',
    'terminal_on',
  ]);
  return {
    retries: bag.integer('retries', 0, 100, DEFAULT_RETRY.retries),
    initialMs: bag.number('initial_ms', 0, DAY_MS, DEFAULT_RETRY.initialMs),
    multiplier: bag.number('multiplier', 1, 100, DEFAULT_RETRY.multiplier),
    maxMs: bag.number('max_ms', 0, DAY_MS, DEFAULT_RETRY.maxMs),
    jitter: bag.number('jitter', 0, 1, DEFAULT_RETRY.jitter),
    retryOn: bag.texts('retry_on', 100),
    terminalOn: bag.texts('terminal_on', 100),
  };
};

const replicasOf = (bag: Bag): FunctionSpec['replicas'] => {
  const min = bag.integer('min_replicas', 0, REPLICAS_MAX, 1);
  const max = bag.integer('max_replicas', 1, REPLICAS_MAX, Math.max(1, min));
  if (max < min) refuse('max_replicas', max, `at least min_replicas (${min})`);
  return { min, max };
};

export const resourcesOf = (value: unknown): Resources => {
  const bag = bagOf(value ?? {}, 'resources', ['cpu', 'memory_bytes', 'gpu']);
  return {
    cpu: bag.optionalNumber('cpu', 0.001, 10_000),
    memoryBytes: bag.optionalInteger('memory_bytes', 1, 2 ** 50),
    gpu: gpuOf(bag),
  };
};

const GPU = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}(?::([1-9]\d?))?$/;
const GPUS_MAX = 64;

/** `type` or `type:count`. */
const gpuOf = (bag: Bag): string | null => {
  if ((bag.raw('gpu') ?? null) === null) return null;
  const want = `a device type, and how many of them from 1 to ${GPUS_MAX}, such as nvidia-l4 or nvidia-tesla-t4:2`;
  const gpu = bag.pattern('gpu', GPU, want);
  return Number(GPU.exec(gpu)![1] ?? 1) <= GPUS_MAX ? gpu : refuse('resources.gpu', gpu, want);
};

const environmentOf = (value: unknown): Environment => {
  const bag = bagOf(value ?? {}, 'environment', ['base', 'steps', 'env', 'isolated', 'interpreter']);
  return {
    base: bag.optionalText('base', 1024),
    steps: bag.list('steps', STEPS_MAX).map((step, i) => stepOf(step, `environment.steps[${i}]`)),
    env: variablesOf(bag.raw('env'), 'environment.env'),
    isolated: bag.flag('isolated', false),
    interpreter: bag.optionalText('interpreter', 4096),
  };
};

const STEPS = ['pip_install', 'apt_install', 'run'] as const;

const stepOf = (value: unknown, where: string): ImageStep => {
  const bag = bagOf(value, where, STEPS);
  const given = STEPS.filter((step) => bag.raw(step) !== undefined);
  if (given.length !== 1) return refuse(where, value, `exactly one of ${STEPS.join(', ')}`);
  if (given[0] === 'run') return { run: bag.text('run', 1, 65_536) };
  return given[0] === 'pip_install'
    ? { pip_install: bag.texts('pip_install', 1000) }
    : { apt_install: bag.texts('apt_install', 1000) };
};

/** Linux hands a process about 2 MiB, arguments included; every version keeps its own, and lists show them. */
const VARIABLES_BYTES_MAX = 256 * KiB;

export const variablesOf = (value: unknown, where: string): Readonly<Record<string, string>> => {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    return refuse(where, value, 'an object of strings');
  }
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length > 1000) refuse(where, entries.length, 'at most 1000 variables');
  for (const [name, text] of entries) {
    const at = `${where}.${name.slice(0, 256)}`;
    if (!VARIABLE.test(name)) refuse(at, name, 'a name of letters, digits and _');
    if (typeof text !== 'string' || text.includes('\0') || text.length > 65_536) {
      refuse(at, text, 'a string of at most 65536 characters without NUL');
    }
  }
  const bytes = entries.reduce(
    (sum, [name, text]) => sum + name.length + Buffer.byteLength(text as string),
    0,
  );
  if (bytes > VARIABLES_BYTES_MAX)
    refuse(where, `${bytes} bytes`, `at most ${VARIABLES_BYTES_MAX} bytes in all; what is larger is a file`);
  return Object.fromEntries(entries) as Record<string, string>;
};

/** The spec as GET shows it: whole, without the source. */
export const presentSpec = (spec: FunctionSpec): Omit<SpecJson, 'source'> => ({
  name: spec.name,
  runtime: spec.runtime,
  ...(spec.handler.file === '' ? {} : { handler: spec.handler }),
  input_mode: spec.inputMode,
  inputs: spec.inputs,
  output: spec.output,
  ...batchingJson(spec.batching),
  retry: presentRetry(spec.retry),
  isolation: spec.isolation,
  call_timeout_ms: spec.callTimeoutMs,
  min_replicas: spec.replicas.min,
  max_replicas: spec.replicas.max,
  resources: presentResources(spec.resources),
  environment: spec.environment,
  ...(spec.model == null ? {} : { model: spec.model }),
  ...(spec.container == null ? {} : { container: presentContainer(spec.container) }),
  ...(spec.engine == null ? {} : { engine: presentEngine(spec.engine) }),
  ...(spec.backend === undefined ? {} : { backend: spec.backend }),
  ...(spec.task === undefined ? {} : { task: spec.task }),
  ...(spec.inferenceStore == null ? {} : { inference_store: presentInferenceStore(spec.inferenceStore) }),
});

export const presentRetry = (retry: RetryPolicy) => ({
  retries: retry.retries,
  initial_ms: retry.initialMs,
  multiplier: retry.multiplier,
  max_ms: retry.maxMs,
  jitter: retry.jitter,
  retry_on: retry.retryOn,
  terminal_on: retry.terminalOn,
});

export const presentResources = ({ cpu, memoryBytes, gpu }: Resources) => ({
  cpu,
  memory_bytes: memoryBytes,
  gpu,
});
