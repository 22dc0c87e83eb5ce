/** The workers of one process on a store: the host and its handler processes. */
import { randomUUID } from 'node:crypto';
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
};

export const makeWorkers = (options: WorkersOptions): Service => {
  const { server, settings, log, strict, pythonDefault } = options;
  const store = server.connect();
  const handlerLog = new HandlerLog(store.registry, log);
  const launcher = new Launcher({
    handlerLog,
    environment: ownEnvironment(),
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
      await store.close();
    },
  };
};
