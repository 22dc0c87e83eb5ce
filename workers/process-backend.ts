/** The back end whose replicas are child processes: prepares source, environment and files. One for all functions of a worker. */

import { homedir } from 'node:os';
import { join } from 'node:path';
import type { FunctionVersion } from '../shared/domain/function.ts';
import { presentSpec } from '../shared/wire/spec.ts';
import type { Backend, BackendOptions, HandlerInstance, LaunchRequest, ModelFolder } from './backend.ts';
import { Ports } from './container/ports.ts';
import { type IgnoredOption, ignoredOptions } from './honoured-options.ts';
import { startLocalEngine } from './http/local-engine.ts';
import { nodeCommand } from './js/launch.ts';
import { HandlerProcess, type ProcessCommand } from './process.ts';
import { type Environment, Environments } from './python/environments.ts';
import { interpreterOf, pythonCommand } from './python/launch.ts';
import { SourceDirectory } from './source-directory.ts';

export type ProcessBackendOptions = Pick<BackendOptions, 'environment' | 'models' | 'machine'> & {
  /** The interpreter for Python functions whose deploy named none that is here; null: python3. */
  readonly pythonDefault: string | null;
  /** Where virtual environments are kept; null: below ~/.cache/sluice. */
  readonly environmentsDirectory: string | null;
  /** Of that directory. */
  readonly environmentsBytesMax: number;
  /** Where Node functions find packages that they did not bring. */
  readonly modulesDirectory: string;
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

export class ProcessBackend implements Backend {
  readonly #options: ProcessBackendOptions;
  readonly #sources = new SourceDirectory();
  readonly #environments: Environments;
  readonly #ports = new Ports();
  readonly #stopped = new AbortController();
  readonly #processes = new Set<HandlerInstance>();

  constructor(options: ProcessBackendOptions) {
    this.#options = options;
    const { environmentsDirectory, environmentsBytesMax: bytesMax } = options;
    const root = environmentsDirectory ?? join(homedir(), '.cache', 'sluice', 'environments');
    this.#environments = new Environments({ root, bytesMax });
  }

  ignored(version: FunctionVersion): IgnoredOption[] {
    return ignoredOptions(version.spec, this.#options.machine);
  }

  async launch(request: LaunchRequest): Promise<HandlerInstance> {
    const { version, replica, onLine } = request;
    const { spec, digest } = version;
    if (spec.runtime === 'http') return this.#launchEngine(request);
    const signal = AbortSignal.any([this.#stopped.signal, request.signal]);
    const held: (() => void)[] = [];
    const giveBack = (): void => {
      for (const one of held.splice(0)) one();
    };
    const hold = <T extends { giveBack(): void }>(taken: T): T => {
      held.push(() => taken.giveBack());
      return taken;
    };
    try {
      const { directory } = hold(await this.#sources.take(version));
      const command = await this.#command(request, directory, signal, hold);
      // Its files are prepared for other replicas as well.
      const model = spec.model
        ? hold(await this.#options.models.take(spec.model, this.#stopped.signal))
        : null;
      signal.throwIfAborted();
      const artifacts = model?.directory ?? null;
      const process = new HandlerProcess({
        command,
        init: { function: presentSpec(spec), version: digest, directory, replica, artifacts },
        memoryBytesMax: spec.resources.memoryBytes,
        onLine,
      });
      this.#keep(process, giveBack);
      return process;
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  async #launchEngine({ version, devices, onLine }: LaunchRequest): Promise<HandlerInstance> {
    const { signal } = this.#stopped;
    const port = await this.#ports.take();
    let model: ModelFolder | null = null;
    const giveBack = (): void => {
      this.#ports.giveBack(port);
      model?.giveBack();
    };
    try {
      const binding = version.spec.model;
      model = binding && binding.files.length > 0 ? await this.#options.models.take(binding, signal) : null;
      signal.throwIfAborted();
      const engine = startLocalEngine({
        ...{ version, port, onLine },
        modelDirectory: model?.directory ?? null,
        inherited: this.#inheritedFor(version),
        devices: devicesVariable(devices),
      });
      this.#keep(engine, giveBack);
      return engine;
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  #keep(process: HandlerInstance, giveBack: () => void): void {
    this.#processes.add(process);
    void process.gone.then(() => {
      this.#processes.delete(process);
      giveBack();
    });
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.all([...this.#processes].map(({ gone }) => gone));
    await this.#sources.remove();
  }

  async #command(
    { version, devices, onLine }: LaunchRequest,
    directory: string,
    signal: AbortSignal,
    hold: (environment: Environment) => Environment,
  ): Promise<ProcessCommand> {
    const { spec } = version;
    const { pythonDefault, environment, modulesDirectory } = this.#options;
    const env = this.#environmentOf(version, devices);
    if (spec.runtime === 'node') return nodeCommand(directory, env, modulesDirectory);
    const interpreter = interpreterOf(spec, pythonDefault);
    if (!spec.environment.isolated) return pythonCommand(interpreter, directory, env);
    const request = {
      ...{ spec, interpreter, signal },
      env: withoutUndefined(environment),
      onLine: (text: string) => onLine('stdout', text),
    };
    return pythonCommand(hold(await this.#environments.take(request)).interpreter, directory, env);
  }

  #environmentOf(version: FunctionVersion, devices: readonly number[]): Record<string, string> {
    return {
      ...this.#inheritedFor(version),
      ...devicesVariable(devices),
      ...version.spec.environment.env,
    };
  }

  #inheritedFor({ spec }: FunctionVersion): Record<string, string> {
    const inherited = INHERITED.map((name) => [name, this.#options.environment[name]] as const);
    const { cpu } = spec.resources;
    const threads =
      cpu === null ? [] : THREAD_VARIABLES.map((name) => [name, String(Math.max(1, Math.ceil(cpu)))]);
    return { ...withoutUndefined(Object.fromEntries(inherited)), ...Object.fromEntries(threads) };
  }
}

const devicesVariable = (devices: readonly number[]): Record<string, string> =>
  devices.length === 0 ? {} : { CUDA_VISIBLE_DEVICES: devices.join(',') };

const withoutUndefined = (
  variables: Readonly<Record<string, string | undefined>>,
): Record<string, string> => {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(variables)) if (value !== undefined) kept[name] = value;
  return kept;
};
