/** The workers of one process on a store: the host and its handler processes. */
import { randomUUID } from 'node:crypto';
import type { Settings } from '../shared/config/settings.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Service } from '../shared/runtime/service.ts';
import type { Store } from '../shared/store/ports/store.ts';
import { gpuCount } from './gpu-devices.ts';
import { HandlerLog } from './handler-log.ts';
import { WorkerHost } from './host.ts';
import { Launcher } from './launcher.ts';

export type WorkersOptions = {
  /** A client of their own; the caller closes it after the stop. */
  readonly store: Store;
  readonly settings: Pick<Settings, 'lease' | 'claimsMax' | 'grace'>;
  readonly log: Log;
  /** Refuse functions with options that cannot be honoured here (`sluice serve`), instead of running without. */
  readonly strict: boolean;
  /** The interpreter for Python functions whose own is not on this machine; null: python3. */
  readonly pythonDefault: string | null;
  /** Our own environment; a few harmless variables of it reach handlers (workers/launcher.ts). */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where isolated functions' virtual environments are kept; null: below the system's temporary directory. */
  readonly environmentsDirectory?: string | null;
  /** Where Node functions find packages that they did not bring: the directory that the server was started in. */
  readonly modulesDirectory?: string;
};

export const makeWorkers = (options: WorkersOptions): Service => {
  const { store, settings, log, strict, pythonDefault, environment } = options;
  const handlerLog = new HandlerLog(store.registry, log);
  const launcher = new Launcher({
    handlerLog,
    environment,
    pythonDefault,
    environmentsDirectory: options.environmentsDirectory ?? null,
    modulesDirectory: options.modulesDirectory ?? process.cwd(),
    gpus: gpuCount(),
  });
  const host = new WorkerHost({
    store,
    launcher,
    log,
    workerId: randomUUID(),
    leaseMs: settings.lease,
    claimsMax: settings.claimsMax,
    graceMs: settings.grace,
    strict,
  });
  return {
    start: () => host.start(),
    stop: async () => {
      await host.stop();
      await handlerLog.flush();
    },
  };
};
