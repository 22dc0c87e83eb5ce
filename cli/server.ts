/** One server process, with the roles that it has on its store: what `sluice dev` and `sluice serve` run. */
import path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { makeServices, type Services } from '../services/main.ts';
import { telemetryEnvironment } from '../shared/config/environment.ts';
import { type Settings, settingsRoles } from '../shared/config/settings.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { Log } from '../shared/runtime/log.ts';
import { traceSettings } from '../shared/runtime/trace-settings.ts';
import { startTracing, type Tracing } from '../shared/runtime/tracing.ts';
import { artifactsOptionsOf, artifactsWarning, openArtifacts } from '../shared/store/artifacts/index.ts';
import { bucketOf } from '../shared/store/bucket/bucket-settings.ts';
import type { StoreServer } from '../shared/store/ports/server.ts';
import { makeWorkers, type Workers } from '../workers/main.ts';
import { backendsOf } from './backends.ts';

export type RunningServer = {
  /** Of the API and of the health port; null where this process has none. */
  readonly address: string | null;
  readonly healthAddress: string | null;
  /** `host:port` of gRPC. */
  readonly grpcAddress: string | null;
  /**
   * Leaves within the grace, that of the settings where it is left out, and says what did not answer at its end: things that wait for it
   * are still open. What was accepted is in the store, and leases end by themselves.
   */
  readonly stop: (graceMs?: number) => Promise<'store' | 'collector' | null>;
  /** Resolves with what happened when the store's data is lost; only a new process can go on then. */
  readonly lost: Promise<string>;
};

export type ServerOptions = {
  /** A function that asks for what this machine cannot give is refused instead of run without it. */
  readonly strict: boolean;
  readonly python: string | null;
};

/** Of the grace, what is kept for handing back what runs, closing connections and the store: a fifth, a second at most. */
const CLOSING_MS_MAX = 1000;

const openStore = async (settings: Settings, log: Log): Promise<StoreServer> => {
  const limits = {
    queueRowsMax: settings.queueRowsMax,
    queueBytesMax: settings.queueBytesMax,
    retentionMs: settings.retention,
    acknowledgedRetentionMs: settings.acknowledgedRetention,
  };
  if (settings.store !== 'embedded') {
    const { openRedisStore } = await import('../shared/store/redis/index.ts');
    return openRedisStore({
      ...limits,
      url: settings.store,
      prefix: settings.redisPrefix,
      leaseMs: settings.lease,
      waitReplicas: settings.redisWaitaof,
      bucket: bucketOf(settings),
      onWarning: (sentence) => log.warn(sentence),
    });
  }
  // Neither store is loaded where the other is used.
  const { openEmbeddedStore } = await import('../shared/store/embedded/index.ts');
  return openEmbeddedStore({
    ...limits,
    directory: path.resolve(settings.data),
    durability: settings.durability === 'memory' ? 'memory' : 'fsync',
    limitBytes: settings.diskLimit,
    reserveBytes: settings.diskReserve,
  });
};

type Lost = PromiseWithResolvers<string>;
type Parts = {
  readonly server: StoreServer;
  readonly services: Services;
  readonly workers: Workers | null;
  readonly tracing: Tracing;
};

const makeParts = async (
  server: StoreServer,
  settings: Settings,
  log: Log,
  { strict, python }: ServerOptions,
  lost: Lost,
): Promise<Parts> => {
  const roles = settingsRoles(settings);
  const variables = telemetryEnvironment();
  const traces = traceSettings(variables, (sentence) => log.warn(sentence));
  const services = makeServices({ settings, server, log, roles, traces, onLost: lost.resolve });
  const workers = roles.has('worker')
    ? makeWorkers({
        server,
        settings,
        log,
        strict,
        pythonDefault: python,
        ...modelStorage(settings),
        environmentsDirectory: settings.environments === '' ? null : path.resolve(settings.environments),
        environmentsBytesMax: settings.environmentsLimit,
        backends: backendsOf(settings),
      })
    : null;
  // In this thread it is workers that trace; ingress threads do so by themselves.
  const tracing = await startTracing({
    ...{ role: settings.role, log, variables },
    settings: workers === null ? null : traces,
  });
  return { server, services, workers, tracing };
};

/** Models are served from beside the artifacts, where their files can be links. */
const modelStorage = (settings: Settings) => {
  const options = artifactsOptionsOf(settings);
  const place = options.kind === 'directory' ? options.directory : options.cacheDirectory;
  return { artifacts: openArtifacts(options), modelsDirectory: path.join(place, 'served') };
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Without holding the process. */
const pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms).unref());

/** A store that is there answers in a few milliseconds; a slow disk may hold one answer up. */
const PROBE_MS_MIN = 250;

/** A store that is closed already, and is waited for all the same, has not answered what it was asked. */
const isOfAnswer = (error: unknown): boolean =>
  !(error instanceof SluiceError && ['store_unavailable', 'shutting_down'].includes(error.code));

/** Resolves once a shared store does not answer; looked at from the end of the grace on, less what closing takes. */
const silence = async (ask: Services['reachStore'], afterMs: number, probeMs: number): Promise<void> => {
  if (ask === null) return Promise.withResolvers<void>().promise;
  await pass(afterMs);
  for (;;) {
    const asked = ask().then(() => true, isOfAnswer);
    const probe = pass(probeMs);
    const isThere = await Promise.race([asked, probe.then(() => false)]);
    if (!isThere) return;
    await probe;
  }
};

/**
 * Readiness falls, and stays fallen while all goes on, for balancers to notice. Then claims stop, buffers are handed
 * over, and what runs finishes while the door still answers polls, or is handed back at no cost; then the door closes. At the
 * grace's end nothing waits for a store that does not answer.
 */
const stopParts = async (
  { server, services, workers, tracing }: Parts,
  grace: number,
  pauseMs: number,
): Promise<'store' | 'collector' | null> => {
  const deadline = performance.now() + grace;
  const left = (): number => Math.max(0, deadline - performance.now());
  await services.leave();
  await pause(Math.min(pauseMs, grace / 2));
  const closingMs = Math.min(CLOSING_MS_MAX, grace / 5);
  const silent = silence(services.reachStore, left() - closingMs, Math.max(closingMs / 3, PROBE_MS_MIN));
  const handing = Promise.all([workers?.stop(Math.max(0, left() - closingMs)), services.handOver()]);
  await Promise.race([handing, silent]);
  const sending = tracing.stop(left());
  const closing = services
    .stop(left())
    .then(() => handing)
    .then(() => server.close());
  return Promise.race([
    closing.then(() => sending).then((areSent) => (areSent ? null : 'collector')),
    silent.then(() => pass(left() - closingMs / 4)).then(() => 'store' as const),
  ]);
};

/**
 * V8 collects again when the heap has grown by a part of what is alive, and takes a small part where that is cheap. Here
 * bodies and outputs are most of the growth, and what is alive are the modules of each thread. Measured on bulk work:
 * a collection for every 11 MB and two thirds of a core in all. More growth is faster still, and costs memory: 250 percent
 * a twentieth less CPU a row, a fifth of a GiB more over ten million rows.
 */
const HEAP_GROWTH_PERCENT = 200;

/** What was opened is closed again when a later step throws. */
export const startServer = async (
  settings: Settings,
  log: Log,
  options: ServerOptions,
): Promise<RunningServer> => {
  // Before the first thread starts; it holds for all.
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`);
  const server = await openStore(settings, log);
  const warning = artifactsWarning(settings);
  if (warning !== null) log.warn(warning);
  const lost: Lost = Promise.withResolvers();
  let parts: Parts;
  try {
    parts = await makeParts(server, settings, log, options, lost);
  } catch (error) {
    await server.close();
    throw error;
  }
  const { services, workers } = parts;
  try {
    await services.start();
    await workers?.start();
  } catch (error) {
    await stopParts(parts, settings.grace, 0);
    throw error;
  }
  services.enter();
  return {
    address: services.address(),
    healthAddress: services.healthAddress(),
    grpcAddress: services.grpcAddress(),
    stop: (graceMs = settings.grace) => stopParts(parts, graceMs, settings.leavePause),
    lost: lost.promise,
  };
};
