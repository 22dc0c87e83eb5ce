/** The member `engine` of a function's spec: the inference engine that its replicas run (docs/decisions/0015), and back. */
import type { EngineSpec, ReadinessProbe } from '../domain/engine.ts';
import { REFERENCE } from './model-members.ts';
import { type Bag, bagOf, refuse } from './option-bag.ts';

const PROTOCOLS = ['oip-v2', 'json'] as const;
const WORDS_MAX = 256;
const WORD_CHARACTERS_MAX = 65_536;
const PATH_MAX = 2048;
const VARIABLES_MAX = 1000;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,255}$/;
const VALUE_CHARACTERS_MAX = 65_536;
const DAY_MS = 86_400_000;
/** Kubernetes counts in 32 bits; who waits for more answers than this waits for ever. */
const THRESHOLD_MAX = 10_000;

const MEMBERS = [
  'project',
  'name',
  'version',
  'protocol',
  'command',
  'args',
  'image',
  'port',
  'base_path',
  'probe',
  'model_id',
  'task_type',
  'output',
  'env',
] as const;

const PROBE_MEMBERS = [
  'path',
  'port',
  'initial_delay_ms',
  'timeout_ms',
  'period_ms',
  'success_threshold',
  'failure_threshold',
] as const;

export type EngineMemberJson = {
  readonly project: string;
  readonly name: string;
  readonly version: string;
  readonly protocol: 'oip-v2' | 'json';
  readonly command: readonly string[] | null;
  /** Left out: the image's own. */
  readonly args?: readonly string[];
  readonly image: string | null;
  readonly port: number;
  readonly base_path: string;
  readonly probe: {
    readonly path: string;
    readonly port: number | null;
    readonly initial_delay_ms: number;
    readonly timeout_ms: number;
    readonly period_ms: number;
    readonly success_threshold: number;
    readonly failure_threshold: number;
  };
  readonly model_id: string;
  readonly task_type: string | null;
  /** Left out: the model has several outputs, or none. */
  readonly output?: string;
  readonly env: Readonly<Record<string, string>>;
};

/**
 * A path and query of the engine's own address, and never another one: what begins with // names a host, and a browser's
 * reading of \ does as well.
 */
const PATH = /^\/(?!\/)[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*$/;
const BASE_PATH = /^(\/[A-Za-z0-9\-_~!$&'()*+,;=:@%][A-Za-z0-9\-._~!$&'()*+,;=:@%]*)*$/;

const pathOf = (bag: Bag, name: string, where: string, pattern: RegExp, want: string): string => {
  const path = bag.text(name, 0, PATH_MAX);
  return pattern.test(path) ? path : refuse(`${where}.${name}`, path, want);
};

const wordsOf = (bag: Bag, name: 'command' | 'args'): readonly string[] =>
  bag
    .list(name, WORDS_MAX)
    .map((word, i) =>
      typeof word === 'string' && word.length <= WORD_CHARACTERS_MAX && !word.includes('\0')
        ? word
        : refuse(`engine.${name}[${i}]`, word, 'a string without NUL'),
    );

/** Arguments for the image's own entrypoint. */
const argsOf = (bag: Bag): Pick<EngineSpec, 'args'> => {
  if ((bag.raw('args') ?? null) === null) return {};
  const args = wordsOf(bag, 'args');
  if ((bag.raw('command') ?? null) !== null)
    refuse('engine.args', args, 'null with a command, which has its own');
  return { args };
};

const commandOf = (bag: Bag): readonly string[] | null => {
  if ((bag.raw('command') ?? null) === null) return null;
  const words = wordsOf(bag, 'command');
  if (!words[0]) return refuse('engine.command', words, 'a program and its arguments, or null');
  return words;
};

const imageOf = (bag: Bag): string | null =>
  (bag.raw('image') ?? null) === null
    ? null
    : bag.pattern('image', REFERENCE, 'an image such as registry/name:tag');

const portOf = (bag: Bag): number | null => bag.optionalInteger('port', 1, 65_535);

const probeOf = (bag: Bag): ReadinessProbe => ({
  path: pathOf(bag, 'path', 'engine.probe', PATH, 'a path such as /ready'),
  port: portOf(bag),
  initialDelayMs: bag.integer('initial_delay_ms', 0, DAY_MS, 0),
  timeoutMs: bag.integer('timeout_ms', 1, DAY_MS, 1000),
  periodMs: bag.integer('period_ms', 1, DAY_MS, 10_000),
  successThreshold: bag.integer('success_threshold', 1, THRESHOLD_MAX, 1),
  failureThreshold: bag.integer('failure_threshold', 1, THRESHOLD_MAX, 3),
});

const envOf = (value: unknown): Readonly<Record<string, string>> => {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value))
    return refuse('engine.env', value, 'an object of strings');
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length > VARIABLES_MAX)
    refuse('engine.env', `${entries.length} variables`, `at most ${VARIABLES_MAX}`);
  for (const [name, text] of entries) {
    const at = `engine.env.${name.slice(0, 256)}`;
    if (!VARIABLE.test(name)) refuse(at, name, 'a name of letters, digits and _');
    if (typeof text !== 'string' || text.includes('\0') || text.length > VALUE_CHARACTERS_MAX)
      refuse(at, text, `a string of at most ${VALUE_CHARACTERS_MAX} characters without NUL`);
  }
  return Object.fromEntries(entries) as Record<string, string>;
};

const outputOf = (bag: Bag): Pick<EngineSpec, 'output'> =>
  (bag.raw('output') ?? null) === null ? {} : { output: bag.text('output', 0, WORD_CHARACTERS_MAX) };

/** @throws SluiceError `invalid_function` */
export const engineOf = (value: unknown): EngineSpec | null => {
  if (value === undefined || value === null) return null;
  const bag = bagOf(value, 'engine', MEMBERS);
  return {
    project: bag.text('project', 1, 256),
    name: bag.text('name', 1, 256),
    version: bag.text('version', 1, 256),
    protocol: bag.choice('protocol', PROTOCOLS),
    command: commandOf(bag),
    ...argsOf(bag),
    image: imageOf(bag),
    port: portOf(bag) ?? 8080,
    basePath: pathOf(
      bag,
      'base_path',
      'engine',
      BASE_PATH,
      "'' or a path such as /v2/models/house, without . and .. and / at its end",
    ),
    probe: probeOf(bagOf(bag.raw('probe'), 'engine.probe', PROBE_MEMBERS)),
    modelId: bag.text('model_id', 1, 1024),
    taskType: bag.optionalText('task_type', 256),
    ...outputOf(bag),
    env: envOf(bag.raw('env')),
  };
};

/** @throws SluiceError `invalid_function` where engine, runtime and back end do not go together */
export const checkEngine = (engine: EngineSpec | null, runtime: string, backend: string): void => {
  if (runtime !== 'http') {
    if (engine !== null) refuse('engine', engine.name, `null with the runtime "${runtime}"`);
    return;
  }
  if (engine === null) {
    refuse('engine', null, 'the engine that it runs, with the runtime "http"');
  } else if (backend === 'process' && engine.command === null)
    refuse(
      'engine.command',
      null,
      'a command with the back end "process"; an image alone needs "container" or "kubernetes"',
    );
  else if (backend !== 'process' && engine.image === null)
    refuse('engine.image', null, `an image with the back end "${backend}"; a command alone needs "process"`);
};

export const presentEngine = (engine: EngineSpec): EngineMemberJson => ({
  project: engine.project,
  name: engine.name,
  version: engine.version,
  protocol: engine.protocol,
  command: engine.command,
  ...(engine.args === undefined ? {} : { args: engine.args }),
  image: engine.image,
  port: engine.port,
  base_path: engine.basePath,
  probe: {
    path: engine.probe.path,
    port: engine.probe.port,
    initial_delay_ms: engine.probe.initialDelayMs,
    timeout_ms: engine.probe.timeoutMs,
    period_ms: engine.probe.periodMs,
    success_threshold: engine.probe.successThreshold,
    failure_threshold: engine.probe.failureThreshold,
  },
  model_id: engine.modelId,
  task_type: engine.taskType,
  ...(engine.output === undefined ? {} : { output: engine.output }),
  env: engine.env,
});
