/**
 * The services of one process on a store, as its roles have them: ingress (HTTP threads), buffer and reaper, and the
 * health port of every role. Started in the order in which work flows out, stopped in the order in which it flows in,
 * so that nothing accepted meets a closed door.
 */
import type { Role } from '../shared/config/roles.ts';
import type { Settings } from '../shared/config/settings.ts';
import type { Log } from '../shared/runtime/log.ts';
import { makePreciseWall } from '../shared/runtime/precise-wall.ts';
import type { TraceSettings } from '../shared/runtime/trace-settings.ts';
import { artifactsOptionsOf, openArtifacts } from '../shared/store/artifacts/index.ts';
import type { StoreServer } from '../shared/store/ports/server.ts';
import type { Store } from '../shared/store/ports/store.ts';
import { BatchRunner } from './batches/batch-runner.ts';
import { fileDigests } from './batches/file-sweep.ts';
import { Buffer } from './buffer/buffer.ts';
import type { Clocks } from './buffer/window.ts';
import { DriftRounds } from './inferences/drift-rounds.ts';
import { InferenceSweep, inferenceDigests } from './inferences/inference-sweep.ts';
import { ownExposition } from './ingress/exposition.ts';
import { makeHealthServer } from './ingress/health-server.ts';
import { makeIngress } from './ingress/pool.ts';
import { Reaper } from './reaper/reaper.ts';
import { Engines } from './registry/engines.ts';
import { Models } from './registry/models.ts';
import { RegistrySweep } from './registry/registry-sweep.ts';
import { GroupRecords, groupHoldings } from './scaling/group-records.ts';
import { Rollouts } from './scaling/rollouts.ts';

export type ServicesOptions = {
  readonly settings: Settings;
  readonly server: StoreServer;
  readonly log: Log;
  readonly roles: ReadonlySet<Role>;
  readonly traces: TraceSettings | null;
  /** The store's data is lost or replaced: this process can do nothing with what is there now. */
  readonly onLost: (detail: string) => void;
};

export type Services = {
  readonly start: () => Promise<void>;
  /** `http://host:port` of the API and of the health port, once started; null where there is none. */
  readonly address: () => string | null;
  /** `host:port` of gRPC, once started; null where there is none. */
  readonly grpcAddress: () => string | null;
  readonly healthAddress: () => string | null;
  /** Ends when the store has answered; null where it is this process's own. */
  readonly reachStore: (() => Promise<unknown>) | null;
  /** The last step of a start: the whole process takes work. */
  readonly enter: () => void;
  /** The first step of a stop: readiness falls while everything is still done. */
  readonly leave: () => Promise<void>;
  /** Nothing is sealed any more, and other buffers take over what was owned here. */
  readonly handOver: () => Promise<void>;
  /** All the rest; what is open at the door is closed after `graceMs`. Safe to call twice, and before a start. */
  readonly stop: (graceMs: number) => Promise<void>;
};

const CLOCKS: Clocks = {
  wall: () => Date.now(),
  preciseWall: makePreciseWall(),
  monotonic: () => performance.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

const CLAIM_MS_MIN = 3000;

type ModelServices = {
  readonly start: () => Promise<void>;
  readonly handOver: () => Promise<void>;
  readonly stop: () => Promise<void>;
};

/** What of models and their groups goes on by itself. */
const makeModelServices = (settings: Settings, store: Store, log: Log): ModelServices => {
  const { wall } = CLOCKS;
  const stored = artifactsOptionsOf(settings);
  const artifacts = openArtifacts(stored);
  const models = new Models(store.documents, artifacts);
  const drift = new DriftRounds({ documents: store.documents, artifacts: stored, log, wall });
  const records = new GroupRecords(store.documents);
  const engines = new Engines(store.documents);
  const rollouts = new Rollouts({ store, models, engines, log, wall });
  const holdings = async () => groupHoldings(await records.all());
  const digests = async function* () {
    yield* fileDigests(store.documents);
    yield* inferenceDigests(store.documents);
  };
  const inferences = new InferenceSweep({ documents: store.documents, log, wall });
  const sweep = new RegistrySweep({ store, artifacts, holdings, digests, log, wall });
  const batches = new BatchRunner({
    ...{ store, artifacts, log, wall },
    // Claims are renewed every third of it, at a look each half second.
    claimMs: Math.max(CLAIM_MS_MIN, settings.lease),
  });
  const handOver = async (): Promise<void> => {
    await drift.stop();
    await inferences.stop();
    await batches.stop();
    await rollouts.stop();
    await sweep.stop();
  };
  return {
    start: async () => {
      await rollouts.start();
      await sweep.start();
      await batches.start();
      await inferences.start();
      await drift.start();
    },
    handOver,
    stop: async () => {
      await handOver();
      await artifacts.close();
    },
  };
};

export const makeServices = ({ settings, server, log, roles, traces, onLost }: ServicesOptions): Services => {
  const store = server.connect();
  const ingress = roles.has('ingress') ? makeIngress({ settings, server, log, traces }) : null;
  const buffer = roles.has('buffer') ? new Buffer(store, log, CLOCKS) : null;
  // It looks at the functions that the buffer owns: both are one client of the store.
  const { claimsMax, lease } = settings;
  const reaper = buffer && new Reaper({ store, log, claimsMax, leaseMs: lease, wall: CLOCKS.wall });
  const models = roles.has('buffer') ? makeModelServices(settings, store, log) : null;
  const { host, healthPort } = settings;
  const health =
    healthPort === null
      ? null
      : makeHealthServer({
          host,
          port: healthPort,
          reachStore: () => store.retention.usage(),
          exposition: () => (ingress === null ? ownExposition() : ingress.exposition()),
        });
  store.queue.watch({ kind: 'lost' }, (lost) => {
    ingress?.lose(lost);
    health?.lose(lost.detail);
    onLost(lost.detail);
  });
  return {
    address: () => ingress?.address() ?? null,
    grpcAddress: () => ingress?.grpcAddress() ?? null,
    healthAddress: () => health?.address() ?? null,
    reachStore: store.coordination.exclusive ? null : () => store.reach(),
    start: async () => {
      await health?.start();
      await buffer?.start();
      await reaper?.start();
      await models?.start();
      await ingress?.start();
    },
    enter: () => health?.setReady(true),
    leave: async () => {
      health?.setReady(false);
      await ingress?.leave();
    },
    handOver: async () => {
      await models?.handOver();
      await reaper?.stop();
      await buffer?.stop();
    },
    stop: async (graceMs) => {
      await ingress?.stop(graceMs);
      await models?.stop();
      await reaper?.stop();
      await buffer?.stop();
      await health?.stop();
      await store.close();
    },
  };
};
