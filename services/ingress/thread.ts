/** An ingress thread: a store client, a fastify server, and the main thread's questions. */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { telemetryEnvironment } from '../../shared/config/environment.ts';
import type { Settings } from '../../shared/config/settings.ts';
import { keepCompiled } from '../../shared/runtime/compiled-code.ts';
import { makeLog } from '../../shared/runtime/log.ts';
import { snapshot } from '../../shared/runtime/metrics.ts';
import type { TraceSettings } from '../../shared/runtime/trace-settings.ts';
import { startTracing } from '../../shared/runtime/tracing.ts';
import { artifactsOptionsOf, openArtifacts } from '../../shared/store/artifacts/index.ts';
import { attachStore } from '../../shared/store/attach.ts';
import type { StoreEvents } from '../../shared/store/ports/queue.ts';
import { CallIds } from '../../shared/wire/call-id.ts';
import { Catalogue } from '../registry/catalogue.ts';
import { Engines } from '../registry/engines.ts';
import { Functions } from '../registry/functions.ts';
import { Models } from '../registry/models.ts';
import { CallResults } from '../results/call-results.ts';
import { CallWaits } from '../results/call-waits.ts';
import { Groups } from '../scaling/groups.ts';
import { Bodies } from './body.ts';
import { Guard } from './guard.ts';
import { makeHttpServer } from './http-server.ts';
import { Inferences } from './oip/inference.ts';
import type { Room } from './room.ts';
import { ThreadLink } from './thread-link.ts';

export type ThreadData = {
  readonly settings: Settings;
  readonly traces: TraceSettings | null;
  readonly ticket: unknown;
  readonly number: number;
  readonly connectionsMax: number;
  readonly isLocal: boolean;
};
export type ListenRequest = {
  readonly host: string;
  readonly port: number;
  /** null: nothing listens for gRPC. */
  readonly grpcPort: number | null;
  readonly reusePort: boolean;
};
/** `code`: Node's, such as EADDRINUSE, of the port of `setting`. */
export type ListenAnswer =
  | { readonly port: number; readonly grpcPort: number | null }
  | { readonly code: string; readonly message: string; readonly setting: 'port' | 'grpcPort' };

/** A connection that was busy when the drain began is idle soon after. */
const IDLE_CHECK_MS = 50;

const { settings, traces, ticket, number, connectionsMax, isLocal } = workerData as ThreadData;
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const format = settings.logFormat === 'lines' ? 'lines' : 'json';
const log = makeLog(settings.logLevel, { part: 'ingress', thread: number }, format);
const store = await attachStore(ticket);
const tracing = await startTracing({
  settings: traces,
  role: settings.role,
  log,
  variables: telemetryEnvironment(),
});
const ids = new CallIds(store.queue.generation);
const catalogue = new Catalogue(store, log);
const guard = new Guard(store.keys, isLocal, !store.coordination.exclusive);
const port = parentPort!;
const link: ThreadLink = new ThreadLink(port, {
  listen: (value) => listen(value as ListenRequest),
  snapshot: () => snapshot(),
  refreshKeys: () => guard.refresh(),
  refreshFunction: async (name) => {
    await catalogue.refresh(name as string);
  },
  leave: () => {
    room.state.isLeaving = true;
  },
  lose: (lost) => room.waits.lose(lost as StoreEvents['lost']),
  drain: (graceMs) => drain(graceMs as number),
});
const artifacts = openArtifacts(artifactsOptionsOf(settings));
const changed = async (name: string): Promise<void> => {
  await link.ask('functionChanged', name);
};
const models = new Models(store.documents, artifacts);
const engines = new Engines(store.documents);
const groups = new Groups({ store, models, engines, changed, known: (name) => catalogue.known(name) });
const room: Room = {
  settings,
  store,
  log,
  ids,
  catalogue,
  functions: new Functions(store, catalogue, changed, (name, kind) => groups.note(name, kind)),
  models,
  engines,
  groups,
  results: new CallResults(store.queue, catalogue, ids),
  waits: new CallWaits(store.queue),
  guard,
  artifacts,
  bodies: new Bodies(settings),
  version,
  exposition: async () => (await link.ask('exposition')) as string,
  keysChanged: async () => {
    await link.ask('keysChanged');
  },
  state: { isLeaving: false, isDraining: false },
};
store.queue.watch({ kind: 'lost' }, (lost) => room.waits.lose(lost));
await catalogue.start();
await guard.start();
const inferences = new Inferences(room);
const grpc = settings.grpcPort === null ? null : await makeGrpcServer();
const { app, closeIdle } = await makeHttpServer(room, connectionsMax, inferences);
await link.ask('ready');

/** Loaded where it is used alone. */
async function makeGrpcServer() {
  const { GrpcServer } = await import('./oip/grpc-server.ts');
  return new GrpcServer(room, inferences, connectionsMax);
}

async function listen({
  host,
  port: wanted,
  grpcPort: grpcWanted,
  reusePort,
}: ListenRequest): Promise<ListenAnswer> {
  let setting: 'port' | 'grpcPort' = 'grpcPort';
  let grpcPort: number | null = null;
  try {
    if (grpc !== null && grpcWanted !== null)
      grpcPort = await grpc.listen({ host, port: grpcWanted, reusePort });
    setting = 'port';
    // fastify hands its options to Node's listen, and types fewer of them.
    await app.listen({ host, port: wanted, backlog: 2048, ...{ reusePort } });
  } catch (error) {
    const { code = 'unknown', message } = error as NodeJS.ErrnoException;
    return { code, message, setting };
  }
  keepCompiled();
  const address = app.server.address();
  return { port: typeof address === 'object' && address !== null ? address.port : wanted, grpcPort };
}

/** Ready falls, waits are answered with what is known, connections close when they are idle, then the thread ends. */
async function drain(graceMs: number): Promise<void> {
  const deadline = performance.now() + graceMs;
  room.state.isDraining = true;
  room.waits.drain();
  closeIdle();
  const closing = setInterval(closeIdle, IDLE_CHECK_MS);
  void tracing.flush();
  await Promise.all([app.close(), grpc?.stop(settings.grace)]);
  clearInterval(closing);
  catalogue.stop();
  await room.artifacts.close();
  await store.close();
  const areSent = await tracing.stop(Math.max(0, deadline - performance.now()));
  // The answer to this question is the last thing that the port carries.
  setImmediate(() => {
    port.close();
    // A collector that is still being asked would hold the thread.
    if (!areSent) process.exit();
  });
}
