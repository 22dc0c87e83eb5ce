/**
 * The ingress threads. All listen on one port (SO_REUSEPORT), each with a store client of its own; a thread that dies is
 * started again, and a stop drains them all within the grace time.
 */
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { flagOf, type Settings } from '../../shared/config/settings.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { MetricsSnapshot } from '../../shared/runtime/metrics.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { TraceSettings } from '../../shared/runtime/trace-settings.ts';
import type { StoreEvents } from '../../shared/store/ports/queue.ts';
import type { StoreServer } from '../../shared/store/ports/server.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { exposition, ownExposition } from './exposition.ts';
import { isLoopback } from './guard.ts';
import { listenHost, listenUrl } from './listen-address.ts';
import type { ListenAnswer, ThreadData } from './thread.ts';
import { ThreadLink } from './thread-link.ts';

export type IngressOptions = {
  readonly settings: Settings;
  readonly server: StoreServer;
  readonly log: Log;
  /** Left out or null: nobody wants traces. */
  readonly traces?: TraceSettings | null;
};
export type Ingress = Omit<Service, 'stop'> & {
  /** Drains, for `graceMs` at most. */
  readonly stop: (graceMs?: number) => Promise<void>;
  /** `http://host:port`, once started. */
  readonly address: () => string;
  /** `host:port` of gRPC, once started; null: nothing listens for it. */
  readonly grpcAddress: () => string | null;
  /** Ready falls, so that balancers send no new work; what comes is still served. */
  readonly leave: () => Promise<void>;
  /** The store's data is lost: who waits is told so, also where a thread has not heard of it when it drains. */
  readonly lose: (lost: StoreEvents['lost']) => void;
  /** The metrics of all threads and of this one, and of the store. */
  readonly exposition: () => Promise<string>;
};

const THREADS_MAX = 8;
/** A thread that dies at once, again and again, is not started faster than this. */
const RESTART_MS = 200;
/** A scrape does not wait for a busy thread longer than this. */
const SNAPSHOT_MS = 2000;

type ListenError = NodeJS.ErrnoException & { readonly setting?: 'port' | 'grpcPort' };

type Thread = { readonly worker: Worker; readonly link: ThreadLink; readonly exited: Promise<void> };

/** Two threads serve a machine of four cores: the store and the handlers need the others. */
const threadCount = (wanted: number): number =>
  wanted > 0 ? wanted : Math.max(1, Math.min(THREADS_MAX, Math.floor(availableParallelism() / 2)));

const within = <T>(work: Promise<T>, ms: number, fallback: T): Promise<T> => {
  let timer: NodeJS.Timeout;
  const late = new Promise<T>((resolve) => {
    timer = setTimeout(resolve, ms, fallback);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
};

/** Fails when another process listens, which SO_REUSEPORT alone would let pass in silence. */
const claimPort = (host: string, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve()));
  });

class IngressPool implements Ingress {
  readonly #options: IngressOptions;
  readonly #host: string;
  readonly #threads = new Set<Thread>();
  #store: Store | null = null;
  #count: number;
  #number = 0;
  #port = 0;
  #grpcPort: number | null = null;
  #canShare = true;
  #state: 'new' | 'running' | 'stopped' = 'new';
  #stopping: Promise<void> | null = null;
  #restart: NodeJS.Timeout | null = null;

  constructor(options: IngressOptions) {
    this.#options = options;
    this.#host = listenHost(options.settings.host);
    this.#count = threadCount(options.settings.ingressThreads);
  }

  address(): string {
    return listenUrl(this.#host, this.#port);
  }

  grpcAddress(): string | null {
    return this.#grpcPort === null ? null : new URL(listenUrl(this.#host, this.#grpcPort)).host;
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    const { settings, server, log } = this.#options;
    this.#store = server.connect();
    await this.#checkKeys(this.#store);
    for (const setting of ['port', 'grpcPort'] as const) {
      const port = settings[setting];
      if (port !== null && port !== 0)
        await claimPort(this.#host, port).catch((error: object) =>
          this.#refuse(Object.assign(error, { setting }) as ListenError),
        );
    }
    this.#port = settings.port;
    this.#grpcPort = settings.grpcPort;
    await this.#first();
    const others = Array.from({ length: this.#count - 1 }, () => this.#spawn());
    await Promise.all(others);
    log.info({ address: this.address(), grpc: this.grpcAddress(), threads: this.#count }, 'listening');
  }

  leave(): Promise<void> {
    return this.#tellAll('leave', null);
  }

  lose(lost: StoreEvents['lost']): void {
    void this.#tellAll('lose', lost);
  }

  stop(graceMs = this.#options.settings.grace): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    this.#state = 'stopped';
    if (this.#restart !== null) clearTimeout(this.#restart);
    await Promise.all(
      [...this.#threads].map(async ({ worker, link, exited }) => {
        link.ask('drain', graceMs).catch(() => undefined);
        await within(exited, graceMs, undefined);
        await worker.terminate();
      }),
    );
    await this.#store?.close();
  }

  async #checkKeys(store: Store): Promise<void> {
    const { host } = this.#options.settings;
    const keys = await store.keys.list();
    if (isLoopback(host)) {
      if (keys.length === 0)
        this.#options.log.warn('there are no API keys: anyone on this machine may do anything');
      return;
    }
    if (keys.length > 0) return;
    throw new SluiceError(
      'invalid_request',
      `--host is ${JSON.stringify(host)}, which others can reach, and there is no API key; start once with ` +
        '--host 127.0.0.1, run `sluice keys create NAME --scope admin` with SLUICE_URL at it, then start again as now.',
      { field: 'host' },
    );
  }

  readonly #refuse = (error: ListenError): never => {
    const { setting = 'port' } = error;
    const { host, [setting]: port } = this.#options.settings;
    const why = error.code === 'EADDRINUSE' ? 'another process listens there' : error.message;
    throw new SluiceError(
      'invalid_request',
      `${flagOf(setting)} is ${port} on ${host}, and the server cannot listen: ${why}; give another ${flagOf(setting)}, or 0 for a free one.`,
      { field: setting },
    );
  };

  /** The first thread settles the port, and whether this platform shares ports. */
  async #first(): Promise<void> {
    try {
      await this.#spawn();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOTSUP' && code !== 'EINVAL' && code !== 'ENOPROTOOPT') this.#refuse(error as Error);
      this.#canShare = false;
      this.#count = 1;
      await this.#spawn().catch(this.#refuse);
    }
  }

  async #spawn(): Promise<void> {
    const { settings, server, traces = null } = this.#options;
    const { data, transfer } = server.ticket();
    this.#number += 1;
    const workerData: ThreadData = {
      settings,
      traces,
      ticket: data,
      number: this.#number,
      connectionsMax: Math.ceil(settings.connectionsMax / this.#count),
      isLocal: isLoopback(settings.host),
    };
    const worker = new Worker(new URL('./thread.ts', import.meta.url), {
      workerData,
      transferList: [...transfer],
      name: `ingress-${this.#number}`,
    });
    const ready = Promise.withResolvers<void>();
    const link = new ThreadLink(worker, {
      ready: () => ready.resolve(),
      exposition: () => this.exposition(),
      keysChanged: () => this.#tellAll('refreshKeys', null),
      functionChanged: (name) => this.#tellAll('refreshFunction', name),
    });
    const thread: Thread = { worker, link, exited: this.#exitOf(worker, link, ready.reject) };
    this.#threads.add(thread);
    thread.exited.then(() => this.#onExit(thread));
    await ready.promise;
    await this.#listen(thread);
  }

  /** Resolves when the thread is gone, however it went. */
  #exitOf(worker: Worker, link: ThreadLink, reject: (error: Error) => void): Promise<void> {
    worker.on('error', (error) => {
      this.#options.log.error({ err: error }, 'an ingress thread died');
      reject(error);
    });
    return new Promise((resolve) => {
      worker.once('exit', (code) => {
        const reason = `the ingress thread ended with ${code}`;
        link.cut(reason);
        reject(new Error(reason));
        resolve();
      });
    });
  }

  async #listen(thread: Thread): Promise<void> {
    const answer = (await thread.link.ask('listen', {
      host: this.#host,
      port: this.#port,
      grpcPort: this.#grpcPort,
      reusePort: this.#canShare,
    })) as ListenAnswer;
    if ('port' in answer) {
      this.#port = answer.port;
      this.#grpcPort = answer.grpcPort;
      return;
    }
    this.#threads.delete(thread);
    await thread.worker.terminate();
    throw Object.assign(new Error(answer.message), { code: answer.code, setting: answer.setting });
  }

  #onExit(thread: Thread): void {
    if (!this.#threads.delete(thread) || this.#state !== 'running') return;
    this.#restart = setTimeout(() => {
      this.#spawn().catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'an ingress thread could not be started again');
      });
    }, RESTART_MS);
  }

  async exposition(): Promise<string> {
    const asked = [...this.#threads].map(({ link }) =>
      within(link.ask('snapshot') as Promise<MetricsSnapshot | null>, SNAPSHOT_MS, null).catch(() => null),
    );
    const snapshots = (await Promise.all(asked)).filter((one) => one !== null);
    return this.#store === null ? ownExposition() : exposition(this.#store, snapshots);
  }

  async #tellAll(verb: string, value: unknown): Promise<void> {
    await Promise.all(
      [...this.#threads].map(({ link }) =>
        within(link.ask(verb, value), SNAPSHOT_MS, null).catch(() => null),
      ),
    );
  }
}

export const makeIngress = (options: IngressOptions): Ingress => new IngressPool(options);
