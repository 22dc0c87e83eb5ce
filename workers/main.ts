/** The workers of one process on a store: the host and its handler processes. */
import { randomUUID } from 'node:crypto';
import { hostname, totalmem } from 'node:os';
import { ownEnvironment } from '../shared/config/environment.ts';
import type { Settings } from '../shared/config/settings.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Service } from '../shared/runtime/service.ts';
import type { StoreServer } from '../shared/store/ports/server.ts';
import { gpuCount } from './gpu-devices.ts';
import { HandlerLog } from './handler-log.ts';
import { WorkerHost } from './host.ts';
import { Launcher } from './launcher.ts';

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
  /** Where Node functions find packages that they did not bring: the directory that the server was started in. */
  readonly modulesDirectory?: string;
  /** What replicas share; this machine where it is left out. */
  readonly machine?: Machine;
};

export type Machine = { readonly gpus: number; readonly memoryBytes: number };

const thisMachine = (): Machine => ({
  gpus: gpuCount(),
  // A container's limit where there is one; else a number above all memory, or none.
  memoryBytes: Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY),
});

export type Workers = Omit<Service, 'stop'> & {
  /** Batches that run are handed back after `graceMs` (that of the settings where it is left out), at no cost. */
  readonly stop: (graceMs?: number) => Promise<void>;
};

export const makeWorkers = (options: WorkersOptions): Workers => {
  const { server, settings, log, strict, pythonDefault } = options;
  const store = server.connect();
  const handlerLog = new HandlerLog(store.registry, log);
  const launcher = new Launcher({
    handlerLog,
    environment: ownEnvironment(),
    pythonDefault,
    environmentsDirectory: options.environmentsDirectory ?? null,
    modulesDirectory: options.modulesDirectory ?? process.cwd(),
    ...(options.machine ?? thisMachine()),
  });
  const host = new WorkerHost({
    store,
    launcher,
    log,
    // Unique on all machines and for ever, and readable in what the store shows of a worker.
    workerId: `${hostname()}-${process.pid}-${randomUUID()}`,
    leaseMs: settings.lease,
    claimsMax: settings.claimsMax,
    graceMs: settings.grace,
    strict,
  });
  return {
    start: () => host.start(),
    stop: async (graceMs) => {
      await host.stop(graceMs);
      await handlerLog.flush();
      await store.close();
    },
  };
};
