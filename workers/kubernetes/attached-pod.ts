/**
 * A replica that is a pod: waited for, then spoken to over gRPC, until it leaves or somebody else is to serve it.
 *
 *   waiting ──pod ready──► serving ──detached, or drained──► gone
 *      └── it fails ───────────┴── pod deleted, container ended ─┘
 *
 * The pod is the cluster's: a replica that stops is let go, not deleted. Only a batch that hangs costs it its pod, since
 * nothing else ends a handler that does not listen; the cluster starts another.
 */
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { HandlerInstance } from '../backend.ts';
import { type Behind, RemoteReplica } from '../grpc/remote-replica.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext } from '../handler.ts';
import { EngineReplica, engineIn } from '../http/engine-replica.ts';
import type { Cluster } from './cluster.ts';
import { PodLog } from './pod-log.ts';
import { containerOf } from './pod-spec.ts';
import type { PodState } from './pod-state.ts';
import { PodUsage } from './pod-usage.ts';

/** The pod is ready by its probe: its server answers at once, or something between us and it does not let us through. */
const CONNECT_MS_MAX = 30_000;

export type AttachedPodOptions = {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly version: FunctionVersion;
  readonly pod: PodState;
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void;
  /** It is free for another replica. */
  readonly onGone: () => void;
};

export class AttachedPod implements HandlerInstance {
  readonly wantsCalls = false;
  readonly ready: Promise<void>;
  readonly gone: Promise<string>;
  readonly place: string;
  readonly uid: string;

  readonly #options: AttachedPodOptions;
  readonly #connected = Promise.withResolvers<void>();
  /** What is behind the connection has ended. */
  readonly #ended = Promise.withResolvers<string>();
  readonly #usage: PodUsage;
  readonly #log: PodLog;
  readonly #runs: number;
  #replica: HandlerInstance | null = null;
  #onService: (reason: string | null) => void = () => undefined;
  #end: string | null = null;
  #leaving: string | null = null;
  #told: string | null = null;

  constructor(options: AttachedPodOptions) {
    const { cluster, namespace, pod, onLine, onGone } = options;
    this.#options = options;
    this.place = pod.name;
    this.uid = pod.uid;
    this.#runs = pod.runs;
    this.#usage = new PodUsage(() => cluster.podMetrics(namespace, pod.name));
    this.#log = new PodLog({
      config: cluster.config,
      namespace,
      pod: pod.name,
      since: pod.phase === 'ready' ? new Date() : null,
      onLine: (text) => onLine('stdout', text),
    });
    this.ready = this.#connected.promise;
    this.ready.catch(() => undefined);
    this.gone = this.#ended.promise.then(async (reason) => {
      const told = (await this.#replica?.gone) ?? reason;
      this.#log.stop();
      onGone();
      return told;
    });
    this.update(pod);
  }

  get load(): number {
    return this.#replica?.load ?? 0;
  }

  /** Whether it goes on serving what the cluster says of its pod: one that is loaded fails its probes at times. */
  get isServing(): boolean {
    return this.#replica !== null && this.#end === null && this.#leaving === null;
  }

  /** What the cluster says of the pod now; null: it is there no more. */
  update(pod: PodState | null): void {
    if (this.#end !== null) return;
    if (pod === null) this.#finish('its pod was deleted');
    else if (pod.phase === 'leaving') this.#leave(`its pod leaves: ${pod.reason}`);
    else if (pod.phase === 'failed' || pod.phase === 'ended') this.#finish(pod.reason ?? 'its pod failed');
    else if (pod.runs > this.#runs) this.#finish(`its container ended: ${pod.lastEnd ?? 'nobody knows how'}`);
    else if (pod.phase === 'ready' && this.#replica === null) this.#connect(pod);
    else if (pod.reason !== null) this.#tell(pod.reason);
  }

  run(
    batch: HandlerBatch,
    context: HandlerContext,
    signal: AbortSignal,
    begun: () => void,
  ): Promise<HandlerAnswer> {
    return this.#replica?.run(batch, context, signal, begun) ?? Promise.resolve({ end: 'unstarted' });
  }

  withdraw(): void {
    this.#replica?.withdraw();
  }

  onService(listener: (reason: string | null) => void): void {
    this.#onService = listener;
  }

  usage(): ReturnType<HandlerInstance['usage']> {
    return this.#usage.read();
  }

  kill(cause: string): void {
    if (this.load > 0) this.#removePod();
    this.#finish(cause);
  }

  /** Another worker is to serve the pod: what runs here is finished first. */
  letGo(): void {
    if (this.#end === null) this.#leave('another worker serves its pod now');
  }

  async stop(graceMs: number): Promise<void> {
    if (this.#replica === null) this.#finish('it was stopped');
    else await this.#replica.stop(graceMs);
    await this.gone;
  }

  #connect({ ip }: PodState): void {
    this.#replica = this.#replicaAt(ip!, {
      gone: this.#ended.promise,
      usage: () => this.usage(),
      kill: (cause) => this.#finish(cause),
      leave: () => this.#finish(this.#leaving ?? 'it was stopped'),
    });
    this.#replica.onService?.((reason) => this.#onService(this.#leaving ?? reason));
    this.#replica.ready.then(
      () => this.#connected.resolve(),
      (error: unknown) => this.#connected.reject(error),
    );
  }

  #replicaAt(ip: string, behind: Behind): HandlerInstance {
    const { spec } = this.#options.version;
    const { port } = containerOf(this.#options.version);
    const parts = { place: this.place, spec, behind };
    if (spec.runtime !== 'http') {
      const address = ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
      return new RemoteReplica({ ...parts, address, readyMsMax: CONNECT_MS_MAX });
    }
    const { probe } = engineIn(spec);
    return new EngineReplica({
      ...parts,
      address: { host: ip, port },
      probePort: probe.port ?? port,
      // The kubelet has found it ready: one good answer says that it is reached from here as well.
      probe: { ...probe, initialDelayMs: 0, successThreshold: 1 },
      readyMsMax: CONNECT_MS_MAX + 2 * probe.periodMs,
    });
  }

  /** What runs is finished; the cluster waits for it as long as a call may take. */
  #leave(reason: string): void {
    if (this.#leaving !== null) return;
    this.#leaving = reason;
    if (this.#replica === null) this.#finish(reason);
    else {
      // Else it would be given batches, and hand each back, for as long as the one that runs takes.
      this.#onService(reason);
      void this.#replica.stop(this.#options.version.spec.callTimeoutMs);
    }
  }

  #finish(reason: string): void {
    if (this.#end !== null) return;
    this.#end = reason;
    if (this.#replica === null) this.#connected.reject(new Error(reason));
    this.#ended.resolve(reason);
  }

  /** What keeps it from starting stands in the function's log; once for each reason. */
  #tell(reason: string): void {
    if (this.#told === reason) return;
    this.#told = reason;
    this.#options.onLine('stderr', `[sluice: pod ${this.place} waits: ${reason}]`);
  }

  #removePod(): void {
    const { cluster, namespace } = this.#options;
    const reference = { apiVersion: 'v1', kind: 'Pod', metadata: { name: this.place, namespace } };
    cluster
      .remove(reference, this.uid)
      .catch((error: unknown) => this.#options.onLine('stderr', `[sluice: ${(error as Error).message}]`));
  }
}
