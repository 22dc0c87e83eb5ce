/**
 * One version in the cluster as one worker sees it: keeps it applied, watches its pods, and attaches to this worker's share.
 *
 *   applying ──applied──► applied ──a minute──► applying …      (refused: its reason is told, and it is tried again)
 *   pods:  listed, watched ─► shared out among the live workers ─► this one's share is told, attached, let go
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { V1Pod } from '@kubernetes/client-node';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Followed, HandlerInstance, LaunchRequest } from '../backend.ts';
import { AppliedObjects } from './applied-objects.ts';
import { AttachedPod } from './attached-pod.ts';
import { lostWithoutKeda } from './autoscaling.ts';
import type { Cluster } from './cluster.ts';
import { selectorLabels, selectorText } from './names.ts';
import type { KubernetesOptions } from './options.ts';
import { podShare } from './pod-share.ts';
import { type PodState, podState } from './pod-state.ts';
import { PodWatch } from './pod-watch.ts';

/** What somebody deleted or changed in the cluster is put right in this time. */
const APPLY_MS = 60_000;
/** While it has no pods: what keeps the cluster from making them is told soon. */
const APPLY_EMPTY_MS = 5000;
const FIRST_PAUSE_MS = 1000;
const PAUSE_MS_MAX = 30_000;
/** Half a minute with the pauses: an API server that is replaced is back by then. */
const REMOVE_TRIES = 6;
/** A worker that comes or goes changes the shares; the store knows of a dead one after a lease. */
const PEERS_MS = 2000;

export type FollowedVersionOptions = {
  readonly cluster: Cluster;
  /** With the namespace that holds. */
  readonly options: KubernetesOptions;
  readonly workerId: string;
  readonly log: Log;
  readonly version: FunctionVersion;
  readonly scaling: Scaling;
  readonly onReplicas: (replicas: number) => void;
  readonly onFailure: (reason: string) => void;
  readonly onEnd: () => void;
};

export class FollowedVersion implements Followed {
  readonly #options: FollowedVersionOptions;
  readonly #applied: AppliedObjects;
  readonly #watch: PodWatch;
  readonly #attached = new Map<string, AttachedPod>();
  readonly #peersTimer: NodeJS.Timeout;
  #scaling: Scaling;
  #pods: readonly PodState[] = [];
  #mine: ReadonlySet<string> = new Set();
  #peers: readonly string[] = [];
  #told: number | null = null;
  #failure: string | null = null;
  #warned: string | null = null;
  #failures = 0;
  #applyTimer: NodeJS.Timeout | undefined;
  /** What is done to the version's objects, one after another. */
  #work: Promise<void> = Promise.resolve();
  #isEnded = false;

  constructor(options: FollowedVersionOptions) {
    this.#options = options;
    this.#scaling = options.scaling;
    const { cluster, version, log } = options;
    this.#applied = new AppliedObjects(cluster, options.options, version);
    this.#watch = new PodWatch({
      cluster,
      namespace: options.options.namespace,
      selector: selectorText(selectorLabels(version)),
      onPods: (pods) => this.#seen(pods),
      onLost: (reason) => log.warn({ reason }, 'the pods of a function are not seen; trying again'),
    });
    this.#peersTimer = setInterval(() => void this.#lookForPeers(), PEERS_MS).unref();
    void this.#lookForPeers();
    this.#applySoon(0);
  }

  rescale(scaling: Scaling): void {
    this.#scaling = scaling;
    this.#applySoon(0);
  }

  async end(how: 'remove' | 'keep'): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#watch.stop();
    clearInterval(this.#peersTimer);
    clearTimeout(this.#applyTimer);
    await this.#work;
    for (const pod of this.#attached.values()) pod.letGo();
    this.#options.onEnd();
    if (how === 'remove') await this.#remove();
  }

  /** @throws Error that names what is left when the cluster does not let it go */
  async #remove(): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        await this.#applied.remove();
        return;
      } catch (error) {
        if (tries < REMOVE_TRIES) {
          await pause(FIRST_PAUSE_MS * 2 ** (tries - 1));
          continue;
        }
        const { version, options } = this.#options;
        throw new Error(
          `${(error as Error).message}. What is left: kubectl -n ${options.namespace} get all -l ${selectorText(selectorLabels(version))}`,
        );
      }
    }
  }

  /** A pod of this worker's share that has no replica yet; one that is ready before one that starts. */
  attach({ version, onLine }: LaunchRequest): HandlerInstance {
    const order: readonly PodState['phase'][] = ['ready', 'starting', 'failed'];
    const free = this.#pods
      .filter(({ uid }) => this.#mine.has(uid) && !this.#attached.has(uid))
      .toSorted((a, b) => order.indexOf(a.phase) - order.indexOf(b.phase));
    const [pod] = free;
    if (pod === undefined)
      throw new Error(this.#failure ?? 'the cluster has no free pod of it for this worker');
    const { cluster, options } = this.#options;
    const attached = new AttachedPod({
      cluster,
      namespace: options.namespace,
      version,
      pod,
      onLine,
      onGone: () => {
        if (this.#attached.get(pod.uid) === attached) this.#attached.delete(pod.uid);
      },
    });
    this.#attached.set(pod.uid, attached);
    return attached;
  }

  #applySoon(ms: number): void {
    clearTimeout(this.#applyTimer);
    if (this.#isEnded) return;
    this.#applyTimer = setTimeout(() => {
      this.#work = this.#work.then(() => this.#apply());
    }, ms).unref();
  }

  async #apply(): Promise<void> {
    if (this.#isEnded) return;
    const { cluster, options } = this.#options;
    try {
      const { metrics } = options;
      this.#warn(lostWithoutKeda(this.#scaling, { hasKeda: await cluster.hasKeda(), metrics }));
      const trouble = await this.#applied.apply(this.#scaling);
      this.#failures = 0;
      this.#failed(trouble);
      this.#applySoon(this.#pods.length === 0 && this.#scaling.minReplicas > 0 ? APPLY_EMPTY_MS : APPLY_MS);
    } catch (error) {
      this.#failed(error instanceof Error ? error.message : String(error));
      this.#applySoon(Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, PAUSE_MS_MAX));
      this.#failures = Math.min(this.#failures + 1, 10);
    }
  }

  #warn(lost: string | null): void {
    if (lost !== null && lost !== this.#warned)
      this.#options.log.warn({ lost }, 'scaling is not as it was asked for');
    this.#warned = lost;
  }

  /** Each reason once, until another or none takes its place. */
  #failed(reason: string | null): void {
    if (reason !== null && reason !== this.#failure) {
      this.#options.log.warn({ reason }, 'the function is not as it shall be in the cluster');
      this.#options.onFailure(reason);
    }
    const isMended = reason === null && this.#failure !== null;
    this.#failure = reason;
    // The number takes the place of the reason that was told last.
    if (isMended) this.#options.onReplicas(this.#mine.size);
  }

  async #lookForPeers(): Promise<void> {
    const { options, version, log } = this.#options;
    try {
      this.#peers = await options.peers(version);
      this.#share();
    } catch (err) {
      log.warn({ err }, 'the workers of a function are not known; the shares of its pods stay');
    }
  }

  #seen(pods: readonly V1Pod[]): void {
    if (this.#isEnded) return;
    this.#pods = pods.map(podState);
    const byUid = new Map(this.#pods.map((pod) => [pod.uid, pod]));
    for (const [uid, attached] of this.#attached) attached.update(byUid.get(uid) ?? null);
    this.#share();
  }

  #share(): void {
    if (this.#isEnded) return;
    const living = this.#pods.filter(({ phase }) => phase !== 'leaving' && phase !== 'ended');
    const uids = living.map(({ uid }) => uid);
    this.#mine = podShare(uids, this.#options.workerId, this.#peers);
    const isLiving = new Set(uids);
    for (const [uid, attached] of this.#attached)
      if (isLiving.has(uid) && !this.#mine.has(uid)) attached.letGo();
    if (this.#told === this.#mine.size) return;
    this.#told = this.#mine.size;
    this.#options.onReplicas(this.#mine.size);
  }
}
