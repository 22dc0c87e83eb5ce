/** The workers of one process on a store: the host and its handler processes. */
import { randomUUID } from 'node:crypto';
import { hostname, tmpdir, totalmem } from 'node:os';
import { ownEnvironment } from '../shared/config/environment.ts';
import type { Settings } from '../shared/config/settings.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Service } from '../shared/runtime/service.ts';
import type { Artifacts } from '../shared/store/ports/artifacts.ts';
import type { Registry } from '../shared/store/ports/registry.ts';
import type { StoreServer } from '../shared/store/ports/server.ts';
import type { BackendFactory, BackendOptions, Machine } from './backend.ts';
import { type BackendFactories, Backends } from './backends.ts';
import { gpuCount, gpuNames } from './gpu-devices.ts';
import { HandlerLog } from './handler-log.ts';
import { WorkerHost } from './host.ts';
import { InferenceLog } from './inference-log/inference-log.ts';
import { MachineRoom } from './machine-room.ts';
import { ModelDirectories } from './model-directories.ts';
import { ProcessBackend } from './process-backend.ts';

export type WorkersOptions = {
  readonly server: Pick<StoreServer, 'connect'>;
  readonly settings: Pick<Settings, 'lease' | 'claimsMax' | 'grace'>;
  readonly log: Log;
  /** Refuse functions with options that cannot be honoured here (`sluice serve`), instead of running without. */
  readonly strict: boolean;
  /** The interpreter for Python functions whose own is not on this machine; null: python3. */
  readonly pythonDefault: string | null;
  /** Where isolated functions' virtual environments are kept; null: below ~/.cache/sluice. */
  readonly environmentsDirectory?: string | null;
  /** Bytes of them at most; left out: as many as there are. */
  readonly environmentsBytesMax?: number;
  /** Where Node functions find packages that they did not bring: the directory that the server was started in. */
  readonly modulesDirectory?: string;
  /** What replicas share; this machine where it is left out. */
  readonly machine?: Machine;
  /** Where the files of models lie; left out: versions with files cannot start here. The caller closes it. */
  readonly artifacts?: Artifacts | null;
  /** Where they lie as directories while they are served; hard links where it is on the artifacts' file system. */
  readonly modelsDirectory?: string;
  /** Beside the processes; a version with a back end that is left out is refused. */
  readonly backends?: Omit<BackendFactories, 'process'>;
};

const thisMachine = (): Machine => {
  const gpus = gpuCount();
  return { gpus, gpuNames: gpus === 0 ? [] : gpuNames(), memoryBytes: ownMemoryBytes() };
};

const ownMemoryBytes = (): number =>
  // A container's limit where there is one; else a number above all memory, or none.
  Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);

/** Reads who else can run a version; a worker that refuses it reports no replicas. */
const peersOn =
  (registry: Registry): BackendOptions['peers'] =>
  async ({ id, spec }) => {
    const reports = await registry.reports({ now: Date.now(), name: spec.name });
    return reports
      .filter(({ versionId, replicas }) => versionId === id && replicas !== undefined)
      .map(({ workerId }) => workerId);
  };

export type Workers = Omit<Service, 'stop'> & {
  /** Batches that run are handed back after `graceMs` (that of the settings where it is left out), at no cost. */
  readonly stop: (graceMs?: number) => Promise<void>;
};

export const makeWorkers = (options: WorkersOptions): Workers => {
  const { server, settings, log, strict, pythonDefault } = options;
  const store = server.connect();
  const handlerLog = new HandlerLog(store.registry, log);
  const machine = options.machine ?? thisMachine();
  // Unique on all machines and for ever, and readable in what the store shows of a worker.
  const workerId = `${hostname()}-${process.pid}-${randomUUID()}`;
  const artifacts = options.artifacts ?? null;
  const models = new ModelDirectories(artifacts, options.modelsDirectory ?? tmpdir());
  const processes: BackendFactory = async (parts) =>
    new ProcessBackend({
      ...parts,
      pythonDefault,
      environmentsDirectory: options.environmentsDirectory ?? null,
      environmentsBytesMax: options.environmentsBytesMax ?? Number.POSITIVE_INFINITY,
      modulesDirectory: options.modulesDirectory ?? process.cwd(),
    });
  const backends = new Backends(
    { ...options.backends, process: processes },
    {
      log,
      workerId,
      environment: ownEnvironment(),
      artifacts,
      models,
      machine,
      peers: peersOn(store.registry),
    },
  );
  const inferenceLog = new InferenceLog({
    documents: store.documents,
    artifacts,
    generation: store.queue.generation,
    log,
  });
  const host = new WorkerHost({
    store,
    backends,
    room: new MachineRoom(machine),
    handlerLog,
    inferenceLog,
    log,
    workerId,
    leaseMs: settings.lease,
    claimsMax: settings.claimsMax,
    graceMs: settings.grace,
    strict,
  });
  return {
    start: () => host.start(),
    stop: async (graceMs = settings.grace) => {
      const end = performance.now() + graceMs;
      // What was sampled before is written while batches that run take their time.
      void inferenceLog.flush();
      await host.stop(graceMs);
      await inferenceLog.stop(end - performance.now());
      await models.remove();
      await handlerLog.flush();
      await store.close();
    },
  };
};
