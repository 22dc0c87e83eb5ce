/** Inference engines: what a registration says into the domain's words, and back; and what a deployment makes of one. */
import type {
  Engine,
  EngineConfiguration,
  EngineProtocol,
  EngineSelector,
  EngineSpec,
  EngineVersion,
  PredictorValue,
} from '../domain/engine.ts';
import type { Resources } from '../domain/function.ts';
import type { Backend, ModelVersion } from '../domain/model.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import type { EngineJson, EngineSelectorJson, EngineVersionJson } from './engines-api.ts';
import { castPredictorValues, engineVariablesOf, predictorSchemaOf } from './engines-variables.ts';
import { MODEL_NAME, MODEL_NAME_RULE, REFERENCE } from './model-members.ts';
import { type Bag, bagOf, refuse, refusedAs } from './option-bag.ts';

/** The first character keeps it apart from `default`'s siblings in a path; keys of documents take no others. */
const VERSION = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const VERSION_RULE = 'letters, digits, _ . and -, beginning with a letter or a digit, at most 64';
const DEFAULT_VERSION = 'default';
/** Entrypoint and command each: joined they are one command of 256. */
const WORDS_MAX = 128;
const WORD_MAX = 65_536;
const WORDS_BYTES_MAX = 128 * 1024;
/** With a model id of a hundred characters in each place, it is still a path that servers take. */
const PATH_MAX = 200;
const ORGANISATION_MAX = 100;
const PORT = 8080;
const DAY_S = 86_400;
const THRESHOLD_MAX = 10_000;
const MODEL_ID = '{model_id}';

const REGISTRATION = [
  'project',
  'name',
  'version',
  'container_image_cpu',
  'container_image_gpu',
  'is_default',
  'supports_multi_gpu',
  'env',
  'entrypoint',
  'command',
  'port',
  'readiness_probe',
  'container_root_relative_base_url',
  'predictor_env_schema',
  'enforce_predictor_env_schema',
  'inference_protocol',
] as const;

export type EngineRegistration = {
  readonly project: string;
  readonly name: string;
  readonly version: string;
  readonly isDefault: boolean;
  readonly configuration: EngineConfiguration;
};

const invalid = <T>(check: () => T): T => refusedAs('invalid_engine', check);
const isGiven = (bag: Bag, name: string): boolean => (bag.raw(name) ?? null) !== null;

/** @throws SluiceError `invalid_engine` */
export const compileEngine = (value: unknown): EngineRegistration =>
  invalid(() => {
    const bag = bagOf(value, '', REGISTRATION);
    const version = bag.pattern('version', VERSION, VERSION_RULE);
    if (version === DEFAULT_VERSION)
      refuse('version', version, 'another word: default is the version that is named so');
    return {
      project: bag.pattern('project', MODEL_NAME, MODEL_NAME_RULE),
      name: bag.pattern('name', MODEL_NAME, MODEL_NAME_RULE),
      version,
      isDefault: bag.flag('is_default', false),
      configuration: configurationOf(bag),
    };
  });

const configurationOf = (bag: Bag): EngineConfiguration => {
  const started = startOf(bag);
  const protocol = protocolOf(bag);
  const { port, probe } = listeningOf(bag);
  return {
    protocol,
    ...started,
    env: engineVariablesOf(bag.raw('env'), 'env'),
    port,
    basePath: basePathOf(bag, protocol),
    probe,
    predictorVariables: predictorSchemaOf(bag, 'predictor_env_schema'),
    isPredictorEnvEnforced: bag.flag('enforce_predictor_env_schema', false),
  };
};

/** An image, a command, or both; and what they can. */
const startOf = (
  bag: Bag,
): Pick<EngineConfiguration, 'images' | 'entrypoint' | 'command' | 'supportsMultiGpu'> => {
  const images = { cpu: imageOf(bag, 'container_image_cpu'), gpu: imageOf(bag, 'container_image_gpu') };
  const [entrypoint, command] = [wordsOf(bag, 'entrypoint'), wordsOf(bag, 'command')];
  const hasImage = images.cpu !== null || images.gpu !== null;
  if (!hasImage && entrypoint === null && command === null)
    refuse(
      'container_image_cpu',
      undefined,
      'container_image_cpu, container_image_gpu or both; or a command, for engines that run as processes',
    );
  const supportsMultiGpu = bag.flag('supports_multi_gpu', false);
  if (supportsMultiGpu && hasImage && images.gpu === null)
    refuse('supports_multi_gpu', true, 'false, or a container_image_gpu that can');
  return { images, entrypoint, command, supportsMultiGpu };
};

const imageOf = (bag: Bag, name: string): string | null =>
  isGiven(bag, name) ? bag.pattern(name, REFERENCE, 'an image such as registry/name:tag, or null') : null;

const wordsOf = (bag: Bag, name: string): readonly string[] | null => {
  if (!isGiven(bag, name)) return null;
  const words = bag
    .list(name, WORDS_MAX)
    .map((word, i) =>
      typeof word === 'string' && word.length <= WORD_MAX && !word.includes('\0')
        ? word
        : refuse(`${name}[${i}]`, word, `a string of at most ${WORD_MAX} characters without NUL`),
    );
  const bytes = words.reduce((sum, word) => sum + Buffer.byteLength(word), 0);
  if (bytes > WORDS_BYTES_MAX) refuse(name, `${bytes} bytes`, `at most ${WORDS_BYTES_MAX}`);
  return words[0] ? words : refuse(name, words, 'at least one word, or null');
};

const protocolOf = (bag: Bag): EngineProtocol => {
  if (!isGiven(bag, 'inference_protocol')) return 'json';
  const named = bag.choice('inference_protocol', ['oip-v2', 'chariot-v2-kserve', 'none'] as const);
  return named === 'none' ? 'json' : 'oip-v2';
};

const PROBE = [
  'path',
  'port',
  'initial_delay_seconds',
  'timeout_seconds',
  'period_seconds',
  'success_threshold',
  'failure_threshold',
] as const;

/** Seconds may have parts; Kubernetes gets them rounded up. */
const milliseconds = (bag: Bag, name: string, min: number, fallback: number): number =>
  Math.round(1000 * (isGiven(bag, name) ? bag.number(name, min, DAY_S) : fallback));
const threshold = (bag: Bag, name: string, fallback: number): number =>
  isGiven(bag, name) ? bag.integer(name, 1, THRESHOLD_MAX) : fallback;
const portOf = (bag: Bag): number | null => bag.optionalInteger('port', 1, 65_535);

/** Without a port of its own the engine listens where it is probed. */
const listeningOf = (bag: Bag): Pick<EngineConfiguration, 'port' | 'probe'> => {
  const probe = bagOf(bag.raw('readiness_probe') ?? {}, 'readiness_probe', PROBE);
  const [port, probed] = [portOf(bag), portOf(probe)];
  return {
    port: port ?? probed ?? PORT,
    probe: {
      path: isGiven(probe, 'path') ? pathOf(probe.raw('path'), 'readiness_probe.path', '?') : null,
      port: port === null || port === probed ? null : probed,
      initialDelayMs: milliseconds(probe, 'initial_delay_seconds', 0, 0),
      timeoutMs: milliseconds(probe, 'timeout_seconds', 0.001, 1),
      periodMs: milliseconds(probe, 'period_seconds', 0.001, 10),
      successThreshold: threshold(probe, 'success_threshold', 1),
      failureThreshold: threshold(probe, 'failure_threshold', 3),
    },
  };
};

const basePathOf = (bag: Bag, protocol: EngineProtocol): string => {
  const member = 'container_root_relative_base_url';
  if (isGiven(bag, member)) return pathOf(bag.raw(member), member, '').replace(/\/$/, '');
  return protocol === 'oip-v2' ? `/v2/models/${MODEL_ID}` : '';
};

const SEGMENT = /^[A-Za-z0-9_.~!$&'()*+,;=:@%-]*$/;

/** A path on the engine itself: nothing in it may be read as another host, or lead out of where it lies. */
const pathOf = (value: unknown, where: string, more: '' | '?'): string => {
  const want = `a path such as /v2/models/${MODEL_ID}, beginning with / and without empty parts and such as begin with a dot`;
  if (typeof value !== 'string' || value.length > PATH_MAX || !value.startsWith('/'))
    return refuse(where, value, want);
  const [path = '', ...queries] = more === '?' ? value.split('?') : [value];
  const parts = path.slice(1).split('/');
  // A single slash at the end is what people write.
  if (parts.at(-1) === '') parts.pop();
  const isPlain = (text: string): boolean =>
    SEGMENT.test(text.replaceAll(MODEL_ID, '')) && !/%(?![2-7][0-9a-f])|%(25|2f|2e|5c|7f)/i.test(text);
  const isPath = parts.every((part) => part !== '' && !part.startsWith('.') && isPlain(part));
  const isQuery = queries.length < 2 && queries.every((query) => query.split('/').every(isPlain));
  return isPath && isQuery ? value : refuse(where, value, want);
};

/** @throws SluiceError `invalid_engine` */
export const compileDefault = (value: unknown): string =>
  invalid(() => bagOf(value, '', ['version']).pattern('version', VERSION, VERSION_RULE));

/** Whether nothing can be called so: what asks for it gets a 404. */
export const isEngineName = (text: string): boolean => MODEL_NAME.test(text);
export const isEngineVersion = (text: string): boolean => VERSION.test(text);
export const isDefaultWord = (text: string | null): boolean => text === null || text === DEFAULT_VERSION;

const SELECTOR = ['org_name', 'project_name', 'engine_name', 'version'] as const;

/** Of a deployment; null: none. */
export const engineSelectorOf = (value: unknown): EngineSelector | null => {
  if (value === undefined || value === null) return null;
  const bag = bagOf(value, 'engine_selector', SELECTOR);
  return {
    organisation: bag.optionalText('org_name', ORGANISATION_MAX),
    project: bag.pattern('project_name', MODEL_NAME, MODEL_NAME_RULE),
    name: bag.pattern('engine_name', MODEL_NAME, MODEL_NAME_RULE),
    version: isGiven(bag, 'version') ? bag.pattern('version', VERSION, VERSION_RULE) : null,
  };
};

export const presentSelector = (selector: EngineSelector): Required<EngineSelectorJson> => ({
  org_name: selector.organisation,
  project_name: selector.project,
  engine_name: selector.name,
  version: selector.version,
});

export type Installation = {
  readonly model: Pick<ModelVersion, 'model' | 'import' | 'outputs'>;
  readonly backend: Backend | null;
  readonly resources: Resources;
  readonly values: Readonly<Record<string, PredictorValue>>;
};

/**
 * An engine for one group: its image for the group's resources, its paths with the model id in their place, its variables.
 * @throws SluiceError `invalid_function` where it does not go with the deployment
 */
export const installedEngine = (
  engine: EngineVersion,
  { model, backend: wanted, resources, values }: Installation,
): { readonly spec: EngineSpec; readonly backend: Backend } => {
  const { project, name, version, protocol, entrypoint, command } = engine;
  const image = engineImage(engine, resources);
  const backend = wanted ?? (image === null ? 'process' : 'container');
  const words = [...(entrypoint ?? []), ...(command ?? [])];
  if (backend === 'process' && words.length === 0)
    refuse('backend', backend, `"container" or "kubernetes": ${name} has no command that a process can run`);
  if (backend !== 'process' && image === null)
    refuse('backend', backend, `"process": ${name} is a command without an image`);
  // An entrypoint replaces the image's with its arguments; a command alone replaces the arguments only.
  const isWhole = backend === 'process' || entrypoint !== null;
  const modelId = model.model;
  const at = (path: string): string => path.replaceAll(MODEL_ID, modelId.toLowerCase());
  const basePath = at(engine.basePath);
  const spec: EngineSpec = {
    ...{ project, name, version, protocol },
    command: isWhole ? words : null,
    ...(isWhole || command === null ? {} : { args: command }),
    image: backend === 'process' ? null : image,
    port: engine.port,
    basePath,
    probe: {
      ...engine.probe,
      path: engine.probe.path === null ? `${basePath}/ready` : at(engine.probe.path),
    },
    modelId,
    taskType: model.import?.taskType ?? null,
    ...(model.outputs.length === 1 ? { output: model.outputs[0]!.name } : {}),
    env: { ...engine.env, ...castPredictorValues(values, engine, 'predictor_env_var') },
  };
  return { spec, backend };
};

const gpusOf = (gpu: string | null): number => (gpu === null ? 0 : Number(/:(\d+)$/.exec(gpu)?.[1] ?? 1));

/** Of the mode that the resources ask for; null: the engine has none, and is a command. */
const engineImage = (
  { name, images, supportsMultiGpu }: EngineVersion,
  { gpu }: Resources,
): string | null => {
  const gpus = gpusOf(gpu);
  if (gpus > 1 && !supportsMultiGpu)
    refuse('resources.gpu', gpu, `one GPU: ${name} does not support several (supports_multi_gpu)`);
  if (images.cpu === null && images.gpu === null) return null;
  if (gpus > 0)
    return (
      images.gpu ?? refuse('resources.gpu', gpu, `null: ${name} has no image for GPUs (container_image_gpu)`)
    );
  return (
    images.cpu ?? refuse('resources.gpu', gpu, `a GPU: ${name} has no image for CPUs (container_image_cpu)`)
  );
};

const time = (at: number): string => new Date(at).toISOString();

export const presentEngine = (engine: Engine): EngineJson => ({
  project: engine.project,
  name: engine.name,
  default_version: engine.defaultVersion,
  versions: engine.versions,
  created_at: time(engine.createdAt),
  updated_at: time(engine.updatedAt),
});

const presentProbe = (probe: EngineConfiguration['probe']): EngineVersionJson['readiness_probe'] => ({
  path: probe.path,
  port: probe.port,
  initial_delay_seconds: probe.initialDelayMs / 1000,
  timeout_seconds: probe.timeoutMs / 1000,
  period_seconds: probe.periodMs / 1000,
  success_threshold: probe.successThreshold,
  failure_threshold: probe.failureThreshold,
});

export const presentEngineVersion = (
  engine: EngineVersion,
  isDefault: boolean,
  usedBy: readonly string[],
): EngineVersionJson => ({
  project: engine.project,
  name: engine.name,
  version: engine.version,
  is_default: isDefault,
  container_image_cpu: engine.images.cpu,
  container_image_gpu: engine.images.gpu,
  supports_multi_gpu: engine.supportsMultiGpu,
  env: engine.env,
  entrypoint: engine.entrypoint,
  command: engine.command,
  port: engine.port,
  readiness_probe: presentProbe(engine.probe),
  container_root_relative_base_url: engine.basePath,
  predictor_env_schema: engine.predictorVariables.map((variable) => ({
    name: variable.name,
    type: variable.type,
    default_value: variable.defaultValue,
    display_text: variable.displayText,
  })),
  enforce_predictor_env_schema: engine.isPredictorEnvEnforced,
  inference_protocol: engine.protocol === 'oip-v2' ? 'oip-v2' : null,
  used_by: usedBy,
  created_at: time(engine.createdAt),
});

const shown = (text: unknown): string => JSON.stringify(text)?.slice(0, 100) ?? 'missing';

/** @throws SluiceError `engine_not_found` */
export const engineNotFound = (project: string, name: string): SluiceError =>
  new SluiceError('engine_not_found', `There is no engine ${shown(name)} in the project ${shown(project)}.`, {
    field: 'name',
  });

export const noSuchEngineVersion = (engine: Engine, wanted: string | null): SluiceError => {
  const known = engine.versions.slice(-20).join(', ') || 'none';
  const text =
    wanted === null
      ? `The engine ${engine.project}/${engine.name} has no default version; name one of ${known}, or make one the default.`
      : `The engine ${engine.project}/${engine.name} has no version ${shown(wanted)}; there ${engine.versions.length === 1 ? 'is' : 'are'} ${known}.`;
  return new SluiceError('engine_not_found', text, { field: 'version' });
};
