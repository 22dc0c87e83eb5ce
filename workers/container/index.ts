/** The back end whose replicas are containers of this machine, run by podman or docker and spoken to over gRPC. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { presentSpec } from '../../shared/wire/spec.ts';
import type {
  Backend,
  BackendFactory,
  HandlerInstance,
  LaunchRequest,
  Machine,
  ModelFolders,
} from '../backend.ts';
import { RemoteReplica } from '../grpc/remote-replica.ts';
import type { IgnoredOption } from '../honoured-options.ts';
import { EngineReplica } from '../http/engine-replica.ts';
import { bytesText, canWatchMemory } from '../memory-watch.ts';
import { OwnDirectory } from '../own-directory.ts';
import { servedOf } from '../served.ts';
import { SourceDirectory } from '../source-directory.ts';
import { Container } from './container.ts';
import { Images } from './images.ts';
import { labelsOf, removeLeftovers } from './leftovers.ts';
import { type ContainerOptions, usesHostNetwork } from './options.ts';
import { Ports } from './ports.ts';
import {
  engineStart,
  innerPort,
  ownProbePort,
  ownStart,
  type Place,
  runCommand,
  type Start,
  servedStart,
} from './run-command.ts';
import { type ContainerTool, findTool, type ToolLimits } from './tool.ts';

export { type ContainerOptions, PYTHON_IMAGE, READY_MS_MAX } from './options.ts';

/** Letters of a function's name in a container's: the tools allow more, people read less. */
const NAME_LETTERS = 60;

type Parts = {
  readonly options: ContainerOptions;
  readonly tool: ContainerTool;
  readonly limits: ToolLimits;
  readonly models: ModelFolders;
  readonly machine: Machine;
  readonly log: Log;
};

type Prepared = { readonly image: string; readonly start: Start };
/** With what goes after the replica. */
type Held = Prepared & { readonly giveBack: () => void };

class ContainerBackend implements Backend {
  readonly #parts: Parts;
  readonly #images: Images;
  readonly #ports = new Ports();
  readonly #sources = new SourceDirectory();
  readonly #stopped = new AbortController();
  readonly #running = new Set<HandlerInstance>();
  readonly #functions = new OwnDirectory({ parent: tmpdir(), kind: 'functions', isShared: false });

  constructor(parts: Parts) {
    this.#parts = parts;
    const { tool, models, options } = parts;
    const { args, pythonPath } = options;
    this.#images = new Images({ tool, args, models, pythonPath });
  }

  ignored({ spec }: FunctionVersion): IgnoredOption[] {
    const { limits, machine, tool } = this.#parts;
    const { gpu, cpu, memoryBytes } = spec.resources;
    const found: IgnoredOption[] = [];
    if (gpu !== null && machine.gpus === 0)
      found.push({ text: `gpu=${JSON.stringify(gpu)}: this machine has no NVIDIA device`, isBinding: true });
    if (memoryBytes !== null && !limits.memory && !canWatchMemory)
      found.push({
        text: `memory=${bytesText(memoryBytes)}: ${tool.kind} cannot hold it here`,
        isBinding: true,
      });
    if (cpu !== null && !limits.cpu)
      found.push({
        text: `cpu=${cpu}: ${tool.kind} cannot hold it here (no cgroup for it)`,
        isBinding: false,
      });
    if (spec.engine && spec.engine.image === null)
      found.push({ text: 'backend="container": the engine has no image', isBinding: true });
    if (spec.runtime === 'python' && !spec.model)
      found.push({
        text: 'backend="container": it runs models and images, this is neither',
        isBinding: true,
      });
    return found;
  }

  async launch(request: LaunchRequest): Promise<HandlerInstance> {
    const { signal } = this.#stopped;
    const { version, onLine } = request;
    const hostPort = await this.#ports.take();
    const undo: (() => void)[] = [() => this.#ports.giveBack(hostPort)];
    const undoAll = (): void => {
      for (const one of undo.splice(0)) one();
    };
    const takePort = async (): Promise<number> => {
      const port = await this.#ports.take();
      undo.push(() => this.#ports.giveBack(port));
      return port;
    };
    try {
      const probeHostPort = ownProbePort(version.spec) === null ? null : await takePort();
      const place = { ...this.#placeOf(request, hostPort), probeHostPort };
      const { image, start, giveBack } = await this.#prepare(
        version,
        place,
        (text) => onLine('stdout', text),
        signal,
      );
      undo.push(giveBack);
      const artifacts = await this.#artifactsOf(version, signal);
      if (artifacts) undo.push(() => artifacts.giveBack());
      signal.throwIfAborted();
      const replica = this.#start(request, place, { image, start }, artifacts?.directory ?? null);
      this.#running.add(replica);
      void replica.gone.then(() => {
        this.#running.delete(replica);
        undoAll();
      });
      return replica;
    } catch (error) {
      undoAll();
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the worker stops'));
    await Promise.all([...this.#running].map(({ gone }) => gone));
    await this.#sources.remove();
    await this.#functions.remove();
  }

  #placeOf({ version, replica }: LaunchRequest, hostPort: number): Place {
    const name = version.spec.name.replaceAll(/[^A-Za-z0-9_.-]/g, '-').slice(0, NAME_LETTERS);
    return {
      name: `sluice-${name}-${replica}-${randomBytes(4).toString('hex')}`,
      hostPort,
      isHostNetwork: usesHostNetwork(this.#parts.options.args),
    };
  }

  #start(
    request: LaunchRequest,
    place: Place,
    prepared: Prepared,
    artifacts: string | null,
  ): HandlerInstance {
    const { options, tool, limits } = this.#parts;
    const { version, devices, onLine } = request;
    const { spec } = version;
    const labels = {
      ...labelsOf(options.owner),
      'sluice.function': spec.name,
      'sluice.version': version.digest,
    };
    const command = runCommand({
      ...prepared,
      ...{ kind: tool.kind, args: options.args, limits, spec, place, artifacts, devices, labels },
    });
    const { name, hostPort } = place;
    const container = new Container({
      tool,
      name,
      command,
      memoryBytesMax: spec.resources.memoryBytes,
      onLine,
    });
    const parts = { place: name, spec, behind: container, readyMsMax: options.readyMsMax };
    if (!spec.engine) return new RemoteReplica({ address: `127.0.0.1:${hostPort}`, ...parts });
    const probePort = (place.isHostNetwork ? ownProbePort(spec) : place.probeHostPort) ?? hostPort;
    return new EngineReplica({ address: { host: '127.0.0.1', port: hostPort }, probePort, ...parts });
  }

  async #prepare(
    version: FunctionVersion,
    place: Place,
    onLine: (text: string) => void,
    signal: AbortSignal,
  ): Promise<Held> {
    const { spec } = version;
    const { pythonImage, pythonPath } = this.#parts.options;
    const reference = spec.engine?.image ?? spec.environment.base ?? pythonImage;
    const declared = spec.container?.image ?? { reference };
    const image = await this.#images.of(declared, onLine, signal);
    const port = innerPort(spec, place);
    const answers = servedOf(spec);
    if (answers === 'image') {
      const config = await this.#images.config(image, signal);
      const start = spec.engine
        ? engineStart(spec, spec.engine, config, port, place.isHostNetwork)
        : ownStart(spec.container!.entrypoint, config, port, place.isHostNetwork);
      return { image, start, giveBack: () => undefined };
    }
    const served = await this.#images.served(image, answers, spec, onLine, signal);
    const functionFile = answers === 'class' ? await this.#functionFile(version) : null;
    const source = spec.source.length === 0 ? null : await this.#sources.take(version);
    const places = { pythonPath, source: source?.directory ?? null, functionFile };
    const start = servedStart(spec, port, place.isHostNetwork, places);
    return { image: served, start, giveBack: () => source?.giveBack() };
  }

  /** What `--model-directory` reads: the function as JSON; its source lies beside it. */
  async #functionFile({ spec, digest }: FunctionVersion): Promise<string> {
    const file = join(await this.#functions.path(), `${spec.name}-${digest}.json`);
    await writeFile(file, JSON.stringify(presentSpec(spec)));
    return file;
  }

  #artifactsOf({ spec }: FunctionVersion, signal: AbortSignal) {
    const { model } = spec;
    return model && model.files.length > 0 ? this.#parts.models.take(model, signal) : null;
  }
}

/** A back end for `BackendFactories`; made when the first version asks for it, since many machines have no containers. */
export const makeContainerBackend =
  (options: ContainerOptions): BackendFactory =>
  async ({ environment, models, machine, log }) => {
    const tool = await findTool(options.tool, { ...environment });
    const limits = await tool.limits();
    const removed = await removeLeftovers(tool, options.owner);
    if (removed.length > 0)
      log.warn({ containers: removed }, 'removed containers of a server that was killed');
    return new ContainerBackend({ options, tool, limits, models, machine, log });
  };
