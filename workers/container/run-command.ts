/** The command line of one container. Pure. */
import type { EngineSpec } from '../../shared/domain/engine.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import { engineArgs, engineCommand, engineVariables, MODEL_MOUNT } from '../http/engine-variables.ts';
import type { ImageConfig } from './images.ts';
import type { ToolKind, ToolLimits } from './tool.ts';

export const ARTIFACTS = '/app/artifacts';
/** Where ours lies in a container: the Python package, a model's source and its function. */
const HOME = '/opt/sluice';
const PORT_VARIABLES = ['PORT', 'CHALK_REMOTE_CALL_PORT', 'SLUICE_REMOTE_CALL_PORT'];
/** What the tool itself reads: these go by value, all others by name, since command lines are for everyone to read. */
const OF_THE_TOOL = /^(PATH|HOME|TMPDIR|XDG_.*|DOCKER_.*|CONTAINERS?_.*|REGISTRY_.*|LD_.*|SSL_.*|.*_PROXY)$/i;

export type Mount = { readonly from: string; readonly to: string };

/** What a container starts: its own command, another, or our entry point. */
export type Start = {
  readonly command: readonly string[] | null;
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
};

export type Place = {
  readonly name: string;
  /** On this machine's loopback. */
  readonly hostPort: number;
  /** Where an engine's probe that has a port of its own is reached; null: nothing has. */
  readonly probeHostPort?: number | null;
  /** The host's network: the port inside is the same. */
  readonly isHostNetwork: boolean;
};

export const innerPort = (spec: FunctionSpec, { hostPort, isHostNetwork }: Place): number =>
  isHostNetwork ? hostPort : (spec.engine?.port ?? spec.container?.port ?? 8080);

/** The port of an engine's probe, where that is another one than the engine's. */
export const ownProbePort = ({ engine }: FunctionSpec): number | null =>
  engine && engine.probe.port !== engine.port ? engine.probe.port : null;

export type ServedPlaces = {
  /** Directory that holds the package `sluice`. */
  readonly pythonPath: string;
  /** Directory with the version's source; null: it has none. */
  readonly source: string | null;
  /** File with the function as JSON, for models; null: a handler is served. */
  readonly functionFile: string | null;
};

/** Our Python package in a container that may have none. */
export const packageIn = (pythonPath: string): Omit<Start, 'command'> => ({
  env: { PYTHONPATH: `${HOME}/python`, PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1' },
  mounts: [{ from: `${pythonPath}/sluice`, to: `${HOME}/python/sluice` }],
});

/** Our entry point, put into the container: a model's class, or a handler by its name. */
export const servedStart = (
  spec: FunctionSpec,
  port: number,
  isHostNetwork: boolean,
  places: ServedPlaces,
): Start => {
  const { pythonPath, source, functionFile } = places;
  const { env, mounts } = packageIn(pythonPath);
  const paths = [
    ...(source === null ? [] : [`${HOME}/source`]),
    env.PYTHONPATH,
    spec.environment.env.PYTHONPATH,
  ];
  const what = functionFile === null ? handlerFlags(spec) : ['--model-directory', HOME];
  const listen = ['--host', isHostNetwork ? '127.0.0.1' : '0.0.0.0', '--port', String(port)];
  return {
    command: ['python3', '-m', 'sluice.remote_call', ...what, ...listen],
    env: { ...env, PYTHONPATH: paths.filter(Boolean).join(':') },
    mounts: [
      ...mounts,
      ...(source === null ? [] : [{ from: source, to: `${HOME}/source` }]),
      ...(functionFile === null ? [] : [{ from: functionFile, to: `${HOME}/function.json` }]),
    ],
  };
};

const handlerFlags = ({ container }: FunctionSpec): readonly string[] => [
  '--handler',
  container!.handler!,
  ...(container!.onStartup === null ? [] : ['--on-startup', container!.onStartup]),
];

/** `--port N` and `--port=N`, also within a command of a shell. */
const withPort = (command: readonly string[], port: number): readonly string[] =>
  command.map((word, i) => {
    if (command[i - 1] === '--port' && /^\d+$/.test(word)) return String(port);
    return word.replace(/(^|\s)(--port[=\s])\d+(?=\s|$)/g, `$1$2${port}`);
  });

/** The image's own command, or the one of the deployment; on the host's network it is told another port. */
export const ownStart = (
  declared: readonly string[] | null,
  config: ImageConfig,
  port: number,
  isHostNetwork: boolean,
): Start => {
  const given = declared ?? [...config.entrypoint, ...config.command];
  const told = isHostNetwork ? withPort(given, port) : given;
  const isChanged = declared !== null || told.some((word, i) => word !== given[i]);
  return { command: isChanged ? told : null, env: {}, mounts: [] };
};

/** An engine's command or its image's, told its port and its model. */
export const engineStart = (
  spec: FunctionSpec,
  engine: EngineSpec,
  config: ImageConfig,
  port: number,
  isHostNetwork: boolean,
): Start => {
  const args = engineArgs(engine, port);
  const declared = engineCommand(engine, port) ?? (args === null ? null : [...config.entrypoint, ...args]);
  const start = ownStart(declared, config, port, isHostNetwork);
  return { ...start, env: engineVariables(spec, engine, { port, modelPath: MODEL_MOUNT }) };
};

export type RunParts = {
  readonly kind: ToolKind;
  readonly args: readonly string[];
  readonly limits: ToolLimits;
  readonly image: string;
  readonly spec: FunctionSpec;
  readonly place: Place;
  readonly start: Start;
  /** Directory of the model's files; null: none are mounted. */
  readonly artifacts: string | null;
  readonly devices: readonly number[];
  readonly labels: Readonly<Record<string, string>>;
};

export type RunCommand = { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> };

const deviceFlags = (kind: ToolKind, devices: readonly number[]): readonly string[] => {
  if (devices.length === 0) return [];
  // The quotes are docker's: a comma would begin another option.
  if (kind === 'docker') return ['--gpus', `"device=${devices.join(',')}"`];
  return devices.flatMap((id) => ['--device', `nvidia.com/gpu=${id}`]);
};

const limitFlags = ({ limits, spec }: RunParts): readonly string[] => {
  const { cpu, memoryBytes } = spec.resources;
  return [
    ...(memoryBytes === null || !limits.memory ? [] : ['--memory', `${memoryBytes}b`]),
    ...(cpu === null || !limits.cpu ? [] : ['--cpus', String(cpu)]),
  ];
};

export const mountFlag = ({ from, to }: Mount): readonly string[] => [
  '--mount',
  `type=bind,source=${from},target=${to},readonly`,
];

const publishFlags = (
  { isHostNetwork, hostPort, probeHostPort = null }: Place,
  port: number,
  probePort: number | null,
): readonly string[] => {
  if (isHostNetwork) return [];
  const probe =
    probePort === null || probeHostPort === null ? [] : [`127.0.0.1:${probeHostPort}:${probePort}`];
  return [`127.0.0.1:${hostPort}:${port}`, ...probe].flatMap((published) => ['--publish', published]);
};

/** Arguments of the tool, and the variables that it passes on by name. */
export const runCommand = (parts: RunParts): RunCommand => {
  const { kind, args, image, spec, place, start, artifacts, devices, labels } = parts;
  const port = innerPort(spec, place);
  const ports = Object.fromEntries(PORT_VARIABLES.map((name) => [name, String(port)]));
  const env: Record<string, string> = { ...ports, ...spec.environment.env, ...start.env };
  const mounts = [
    ...start.mounts,
    ...(artifacts === null ? [] : [{ from: artifacts, to: spec.engine ? MODEL_MOUNT : ARTIFACTS }]),
  ];
  const [program, ...words] = start.command ?? [];
  return {
    args: [
      'run',
      ...['--name', place.name, '--pull', 'never'],
      ...Object.entries(labels).flatMap(([name, value]) => ['--label', `${name}=${value}`]),
      ...publishFlags(place, port, ownProbePort(spec)),
      ...Object.entries(env).flatMap(([name, value]) => [
        '--env',
        OF_THE_TOOL.test(name) ? `${name}=${value}` : name,
      ]),
      ...mounts.flatMap(mountFlag),
      ...limitFlags(parts),
      ...deviceFlags(kind, devices),
      ...args,
      ...(program === undefined ? [] : ['--entrypoint', program]),
      image,
      ...words,
    ],
    env: Object.fromEntries(Object.entries(env).filter(([name]) => !OF_THE_TOOL.test(name))),
  };
};
