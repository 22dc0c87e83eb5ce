/** One server in one process group on the embedded store: what `sluice dev` and `sluice serve` run. */
import path from 'node:path';
import { makeServices } from '../services/main.ts';
import type { Settings } from '../shared/config/settings.ts';
import type { Log } from '../shared/runtime/log.ts';
import { openEmbeddedStore } from '../shared/store/embedded/index.ts';
import type { StoreServer } from '../shared/store/ports/server.ts';
import { makeWorkers } from '../workers/main.ts';

export type RunningServer = { readonly address: string; readonly stop: () => Promise<void> };

const openStore = (settings: Settings): Promise<StoreServer> =>
  openEmbeddedStore({
    directory: path.resolve(settings.data),
    durability: settings.durability === 'memory' ? 'memory' : 'fsync',
    limitBytes: settings.diskLimit,
    reserveBytes: settings.diskReserve,
    queueRowsMax: settings.queueRowsMax,
    queueBytesMax: settings.queueBytesMax,
    retentionMs: settings.retention,
    acknowledgedRetentionMs: settings.acknowledgedRetention,
  });

/** `strict`: a function that asks for what this machine cannot give is refused instead of run without it. */
export const startServer = async (
  settings: Settings,
  log: Log,
  options: { readonly strict: boolean; readonly python: string | null },
): Promise<RunningServer> => {
  const server = await openStore(settings);
  const services = makeServices({ settings, server, log });
  const workers = makeWorkers({
    server,
    settings,
    log,
    strict: options.strict,
    pythonDefault: options.python,
  });
  const stop = async (): Promise<void> => {
    await services.leave();
    // Handlers finish what runs while the door still answers polls; then the door closes.
    await workers.stop();
    await services.stop();
    await server.close();
  };
  try {
    await services.start();
    await workers.start();
  } catch (error) {
    await stop();
    throw error;
  }
  return { address: services.address(), stop };
};
