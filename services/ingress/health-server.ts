/**
 * Health and metrics of one process on a port of its own, the same in every role: /livez while it answers, /readyz while
 * it is started, reaches its store and does not leave, /metrics of this process. It needs no key and shows no data.
 */
import type { AddressInfo } from 'node:net';
import { type FastifyInstance, fastify } from 'fastify';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { metricsContentType } from '../../shared/runtime/metrics.ts';
import type { Service } from '../../shared/runtime/service.ts';
import { listenHost, listenUrl } from './listen-address.ts';

export type HealthOptions = {
  readonly host: string;
  readonly port: number;
  /** Rejects when the store is not reached. */
  readonly reachStore: () => Promise<unknown>;
  readonly exposition: () => Promise<string>;
};

export type HealthServer = Service & {
  /** `http://host:port`, once started. */
  readonly address: () => string;
  /** From now on it is ready, or not any more. */
  readonly setReady: (isReady: boolean) => void;
  /** The store's data is lost, which is why the process leaves. */
  readonly lose: (why: string) => void;
};

/** A probe and a scraper hold a connection each; what is above this is no probe. */
const CONNECTIONS_MAX = 64;
const REQUEST_MS = 10_000;
/** A store that does not answer in this time is not reached; below the timeouts that probes have. */
const REACH_MS = 2000;

const within = async (work: Promise<unknown>, ms: number): Promise<void> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the store has not answered in ${ms / 1000} s`)), ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
};

class HealthPort implements HealthServer {
  readonly #options: HealthOptions;
  #app: FastifyInstance | null = null;
  #isReady = false;
  #lost: string | null = null;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  readonly setReady = (isReady: boolean): void => {
    this.#isReady = isReady;
  };

  readonly lose = (why: string): void => {
    this.#lost ??= why;
  };

  readonly address = (): string => {
    const { host, port } = this.#options;
    const listening = this.#app?.server.address() as AddressInfo | null | undefined;
    return listenUrl(listenHost(host), listening?.port ?? port);
  };

  async start(): Promise<void> {
    if (this.#app !== null) return;
    const { host, port, exposition } = this.#options;
    const app = fastify({
      logger: false,
      bodyLimit: 1024,
      requestTimeout: REQUEST_MS,
      forceCloseConnections: true,
    });
    this.#app = app;
    app.server.maxConnections = CONNECTIONS_MAX;
    app.get('/livez', () => ({ status: 'alive' }));
    app.get('/readyz', async (_request, reply) => {
      const reason = await this.#whyNot();
      return reason === null ? { status: 'ready' } : reply.code(503).send({ status: 'not ready', reason });
    });
    app.get('/metrics', async (_request, reply) =>
      reply.header('content-type', metricsContentType).send(await exposition()),
    );
    await app.listen({ host: listenHost(host), port }).catch((error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'another process listens there' : error.message;
      throw new SluiceError(
        'invalid_request',
        `--health-port is ${port} on ${host}, and the server cannot listen: ${why}; give another, or 0 for a free one.`,
        { field: 'healthPort' },
      );
    });
  }

  async stop(): Promise<void> {
    this.#isReady = false;
    await this.#app?.close();
  }

  async #whyNot(): Promise<string | null> {
    if (this.#lost !== null) return this.#lost;
    if (!this.#isReady) return 'the process is starting or leaving';
    return within(this.#options.reachStore(), REACH_MS).then(
      () => null,
      (error: Error) => error.message,
    );
  }
}

export const makeHealthServer = (options: HealthOptions): HealthServer => new HealthPort(options);
