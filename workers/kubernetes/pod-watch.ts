/**
 * The pods of one version, as a list that is told anew whenever it changed. It is a level, not a stream of events: a pod
 * that was deleted while nobody watched is missing in the next list, so that no deletion is ever missed.
 *
 *   listing ──list read──► watching ──gone too old (410), cut quietly──► watching (the client's informer does that)
 *      ▲                       │
 *      └── after a pause ── failed, or a resync is due      (what was known stays true until a list says otherwise)
 */
import { type Informer, makeInformer, type ObjectCache, type V1Pod } from '@kubernetes/client-node';
import type { Cluster } from './cluster.ts';

const FIRST_PAUSE_MS = 500;
const PAUSE_MS_MAX = 15_000;
/** What no watch would tell (a server that was restored from a backup) is known by then. */
const RESYNC_MS = 300_000;

export type PodWatchOptions = {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly selector: string;
  readonly onPods: (pods: readonly V1Pod[]) => void;
  /** Told in words each time that the API is lost; it is asked again by itself. */
  readonly onLost: (reason: string) => void;
};

export class PodWatch {
  readonly #options: PodWatchOptions;
  #informer: (Informer<V1Pod> & ObjectCache<V1Pod>) | null = null;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #isStopped = false;

  constructor(options: PodWatchOptions) {
    this.#options = options;
    void this.#watch();
  }

  stop(): void {
    this.#isStopped = true;
    this.#close();
  }

  #close(): void {
    clearTimeout(this.#timer);
    const informer = this.#informer;
    this.#informer = null;
    void informer?.stop();
  }

  async #watch(): Promise<void> {
    this.#close();
    if (this.#isStopped) return;
    const { cluster, namespace, selector } = this.#options;
    let isListed = false;
    const informer = makeInformer(
      cluster.config,
      `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`,
      async () => {
        const list = await cluster.pods(namespace, selector);
        isListed = true;
        return list;
      },
      selector,
    );
    this.#informer = informer;
    let isDue = false;
    const tell = (): void => {
      isDue = false;
      if (isListed && this.#informer === informer) this.#options.onPods(informer.list(namespace));
    };
    // Once for all that one list, or one piece of a watch, brought.
    const tellSoon = (): void => {
      if (!isDue) queueMicrotask(tell);
      isDue = true;
    };
    for (const verb of ['add', 'update', 'delete'] as const) informer.on(verb, tellSoon);
    informer.on('error', (error: unknown) => {
      if (this.#informer === informer) this.#lost(error);
    });
    // It resolves when the watch stands, or when an error was told.
    await informer.start().catch((error: unknown) => this.#lost(error));
    if (this.#informer !== informer) return;
    this.#failures = 0;
    this.#timer = setTimeout(() => void this.#watch(), RESYNC_MS).unref();
    // A list without changes tells no event.
    tell();
  }

  #lost(error: unknown): void {
    this.#close();
    if (this.#isStopped) return;
    this.#options.onLost(error instanceof Error ? error.message : String(error));
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, PAUSE_MS_MAX);
    this.#failures = Math.min(this.#failures + 1, 10);
    // Spread, so that all workers do not ask a server that comes back at once.
    this.#timer = setTimeout(() => void this.#watch(), pauseMs * (0.5 + Math.random() / 2)).unref();
  }
}
