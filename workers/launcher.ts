/** Prepares handler processes: source, environment, devices. One for all functions of a worker. */

import { homedir } from 'node:os';
import { join } from 'node:path';
import type { FunctionVersion } from '../shared/domain/function.ts';
import { presentSpec } from '../shared/wire/spec.ts';
import { GpuDevices } from './gpu-devices.ts';
import type { HandlerLog } from './handler-log.ts';
import { type IgnoredOption, ignoredOptions } from './honoured-options.ts';
import { nodeCommand } from './js/launch.ts';
import { clashOf, type Share } from './machine-room.ts';
import type { ProcessCommand, ProcessOptions } from './process.ts';
import { interpreterOf, pythonCommand } from './python/launch.ts';
import { environmentInterpreter } from './python/virtual-environment.ts';
import { SourceDirectory } from './source-directory.ts';

export type LauncherOptions = {
  readonly handlerLog: HandlerLog;
  /** Variables of our own environment; `INHERITED` of them reach handlers, all reach pip. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The interpreter for Python functions whose deploy named none that is here; null: python3. */
  readonly pythonDefault: string | null;
  /** Where virtual environments are kept. */
  readonly environmentsDirectory: string | null;
  /** Where Node functions find packages that they did not bring. */
  readonly modulesDirectory: string;
  readonly gpus: number;
  /** Memory of this machine, or of the container that this process is in. */
  readonly memoryBytes: number;
};

/** What a handler gets of our environment: nothing that names a key, an address or the data directory. */
const INHERITED = [
  'PATH',
  'HOME',
  'LANG',
  'LC_ALL',
  'LC_CTYPE',
  'TMPDIR',
  'TZ',
  'LD_LIBRARY_PATH',
  'HF_HOME',
];

const THREAD_VARIABLES = [
  'OMP_NUM_THREADS',
  'MKL_NUM_THREADS',
  'OPENBLAS_NUM_THREADS',
  'NUMEXPR_NUM_THREADS',
];

export class Launcher {
  readonly #options: LauncherOptions;
  readonly #sources = new SourceDirectory();
  readonly #devices: GpuDevices;
  readonly #stopped = new AbortController();

  constructor(options: LauncherOptions) {
    this.#options = options;
    this.#devices = new GpuDevices(options.gpus);
  }

  ignored(version: FunctionVersion): IgnoredOption[] {
    return ignoredOptions(version.spec, this.#devices.count);
  }

  /** Why replicas of a version cannot be started beside those of others; null when they can. */
  clash(wanted: Share, holders: readonly Share[]): string | null {
    const { count, free } = this.#devices;
    const { memoryBytes } = this.#options;
    return clashOf(wanted, holders, { devices: count, freeDevices: free, memoryBytes });
  }

  /** A device for a replica that asks for one, where the machine has any. */
  takeDevice(version: FunctionVersion): number | null {
    return version.spec.resources.gpu === null || this.#devices.count === 0 ? null : this.#devices.take();
  }

  giveBack(device: number | null): void {
    if (device !== null) this.#devices.giveBack(device);
  }

  /** Everything a process needs; rejects with the reason why it cannot start. */
  async launch(version: FunctionVersion, replica: number, device: number | null): Promise<ProcessOptions> {
    const { spec, digest } = version;
    const { handlerLog } = this.#options;
    const directory = await this.#sources.of(version);
    const onLine = (stream: 'stdout' | 'stderr', text: string): void =>
      handlerLog.add({ at: Date.now(), functionName: spec.name, replica, stream, text });
    return {
      command: await this.#command(version, directory, this.#environmentOf(version, device), onLine),
      init: { function: presentSpec(spec), version: digest, directory, replica },
      memoryBytesMax: spec.resources.memoryBytes,
      onLine,
    };
  }

  /** Ends what is being prepared: an environment's build takes minutes. */
  stop(): void {
    this.#stopped.abort();
  }

  removeSources(): Promise<void> {
    return this.#sources.remove();
  }

  async #command(
    { spec }: FunctionVersion,
    directory: string,
    env: Readonly<Record<string, string>>,
    onLine: ProcessOptions['onLine'],
  ): Promise<ProcessCommand> {
    const { pythonDefault, environmentsDirectory, environment, modulesDirectory } = this.#options;
    if (spec.runtime === 'node') return nodeCommand(directory, env, modulesDirectory);
    const interpreter = interpreterOf(spec, pythonDefault);
    if (!spec.environment.isolated) return pythonCommand(interpreter, directory, env);
    const isolated = await environmentInterpreter({
      spec,
      interpreter,
      root: environmentsDirectory ?? join(homedir(), '.cache', 'sluice', 'environments'),
      env: withoutUndefined(environment),
      onLine: (text) => onLine('stdout', text),
      signal: this.#stopped.signal,
    });
    return pythonCommand(isolated, directory, env);
  }

  #environmentOf({ spec }: FunctionVersion, device: number | null): Record<string, string> {
    const inherited = INHERITED.map((name) => [name, this.#options.environment[name]] as const);
    const { cpu } = spec.resources;
    const threads =
      cpu === null ? [] : THREAD_VARIABLES.map((name) => [name, String(Math.max(1, Math.ceil(cpu)))]);
    return {
      ...withoutUndefined(Object.fromEntries(inherited)),
      ...Object.fromEntries(threads),
      ...(device === null ? {} : { CUDA_VISIBLE_DEVICES: String(device) }),
      ...spec.environment.env,
    };
  }
}

const withoutUndefined = (
  variables: Readonly<Record<string, string | undefined>>,
): Record<string, string> => {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(variables)) if (value !== undefined) kept[name] = value;
  return kept;
};
