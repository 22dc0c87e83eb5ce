/**
 * Real Redis servers for tests: one, a cluster of three, or a master with a replica and three sentinels. Each listens
 * on free loopback ports, keeps its data in a temporary directory, and can be killed and started again on both.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import { describe, it } from 'vitest';
import { freePort } from './free-port.ts';
import { eventually } from './sluice-process.ts';

export const REDIS_MISSING =
  'redis-server is not installed; on Debian and Ubuntu `apt-get install redis-server` brings it, on macOS `brew install redis`, elsewhere see https://redis.io/docs/latest/operate/oss_and_stack/install.';

const version = spawnSync('redis-server', ['--version'], { encoding: 'utf8' });
export const hasRedis = version.status === 0;

const [, major = 0, minor = 0] = /v=(\d+)\.(\d+)/.exec(version.stdout ?? '') ?? [];
/** Since Redis 7.2, and in every Valkey. */
export const hasWaitaof = Number(major) > 7 || (Number(major) === 7 && Number(minor) >= 2);

/** A `describe` for suites that need Redis: without it they fail in CI, and are skipped elsewhere, both with the reason. */
export const describeWithRedis = (name: string, suite: () => void): void => {
  if (hasRedis) {
    describe(name, suite);
  } else if (process.env.CI === 'true') {
    describe(name, () => {
      it('has a Redis server to run on', () => {
        throw new Error(REDIS_MISSING);
      });
    });
  } else {
    describe.skip(`${name} (skipped: ${REDIS_MISSING})`, suite);
  }
};

export type RedisOptions = {
  /** `always` unless said otherwise; `no` keeps nothing. */
  readonly aof?: 'always' | 'everysec' | 'no';
  /** Further settings as in redis.conf: `{ maxmemory: '64mb', requirepass: 'x' }`. */
  readonly config?: Readonly<Record<string, string | number>>;
  /** The scheme and the part before the host in `url`. */
  readonly scheme?: 'redis' | 'rediss';
  readonly credentials?: string;
};

const living = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of living) child.kill('SIGKILL');
});

/** One server process. `kill` is a SIGKILL; `restart` starts it again on its port and data. */
export class RedisServer {
  readonly port: number;
  readonly directory: string;
  readonly url: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();

  private constructor(port: number, directory: string, url: string, args: readonly string[]) {
    this.port = port;
    this.directory = directory;
    this.url = url;
    this.#args = args;
  }

  static async start(options: RedisOptions = {}): Promise<RedisServer> {
    const { aof = 'always', config = {}, scheme = 'redis', credentials = '' } = options;
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-redis-'));
    const port = await freePort();
    const ports = scheme === 'rediss' ? { port: 0, 'tls-port': port } : { port };
    const settings = {
      ...ports,
      bind: '127.0.0.1',
      dir: directory,
      save: '',
      appendonly: aof === 'no' ? 'no' : 'yes',
      appendfsync: aof === 'no' ? 'everysec' : aof,
      maxmemory: '4gb',
      daemonize: 'no',
      ...config,
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [
      `--${name}`,
      ...String(value).split(' '),
    ]);
    const url = `${scheme}://${credentials === '' ? '' : `${credentials}@`}127.0.0.1:${port}`;
    const server = new RedisServer(port, directory, url, args);
    await server.restart();
    return server;
  }

  /** A sentinel: `file` is its configuration, which it writes itself as it learns. */
  static async startSentinel(directory: string, port: number, file: string): Promise<RedisServer> {
    const url = `redis://127.0.0.1:${port}`;
    const server = new RedisServer(port, directory, url, [file, '--sentinel']);
    await server.restart();
    return server;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async restart(): Promise<void> {
    const child = spawn('redis-server', this.#args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    living.add(child);
    const log: string[] = [];
    this.#exited = new Promise((resolve) =>
      child.once('exit', (code) => {
        living.delete(child);
        resolve(code);
      }),
    );
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (log.length < 200) log.push(line);
        if (/Ready to accept connections|Sentinel ID is/.test(line)) resolve();
      });
      void this.#exited.then((code) =>
        reject(new Error(`redis-server left with ${code} before it listened:\n${log.join('\n')}`)),
      );
    });
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child?.kill(signal);
    await this.#exited;
  }

  /** Stops or goes on without closing a socket (SIGSTOP, SIGCONT). */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Ends it and removes its data. */
  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Asks it something on a connection of its own. */
  async ask<T>(question: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = new Redis({ port: this.port, host: '127.0.0.1', lazyConnect: true, retryStrategy: null });
    redis.on('error', () => undefined);
    try {
      await redis.connect();
      return await question(redis);
    } finally {
      redis.disconnect();
    }
  }
}

/** Three masters that share the slots. */
export class RedisCluster {
  readonly nodes: readonly RedisServer[];
  readonly url: string;

  private constructor(nodes: readonly RedisServer[]) {
    this.nodes = nodes;
    this.url = `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`;
  }

  static async start(options: RedisOptions = {}): Promise<RedisCluster> {
    const start = async (): Promise<RedisServer> => {
      const config = {
        'cluster-enabled': 'yes',
        'cluster-node-timeout': 2000,
        'cluster-port': await freePort(),
        'cluster-require-full-coverage': 'no',
        ...options.config,
      };
      return RedisServer.start({ ...options, config });
    };
    const nodes = [await start(), await start(), await start()];
    const ranges = [
      [0, 5460],
      [5461, 10_922],
      [10_923, 16_383],
    ] as const;
    for (const [index, node] of nodes.entries())
      await node.ask(async (redis) => {
        await redis.cluster('SET-CONFIG-EPOCH', index + 1);
        await redis.call('CLUSTER', 'ADDSLOTSRANGE', ...ranges[index]!);
      });
    const busPort = await nodes[0]!.ask((redis) => redis.config('GET', 'cluster-port'));
    for (const node of nodes.slice(1))
      await node.ask((redis) =>
        redis.call('CLUSTER', 'MEET', '127.0.0.1', nodes[0]!.port, (busPort as string[])[1]!),
      );
    for (const node of nodes)
      await node.ask((redis) =>
        eventually('the cluster is formed', async () => {
          const info = await redis.cluster('INFO');
          return info.includes('cluster_state:ok') && info.includes('cluster_slots_ok:16384');
        }),
      );
    return new RedisCluster(nodes);
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

const MASTER = 'main';

/** A master and its replica, watched by three sentinels that fail over half a second after the master is silent. */
export class RedisSentinels {
  readonly master: RedisServer;
  readonly replica: RedisServer;
  readonly sentinels: readonly RedisServer[];
  readonly url: string;

  private constructor(master: RedisServer, replica: RedisServer, sentinels: readonly RedisServer[]) {
    this.master = master;
    this.replica = replica;
    this.sentinels = sentinels;
    const hosts = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',');
    this.url = `redis+sentinel://${hosts}/${MASTER}`;
  }

  static async start(options: RedisOptions = {}): Promise<RedisSentinels> {
    // Both may be the master; one waits five seconds for more replicas otherwise.
    const config = { 'repl-diskless-sync-delay': 0, ...options.config };
    const master = await RedisServer.start({ ...options, config });
    const replicaof = `127.0.0.1 ${master.port}`;
    const replica = await RedisServer.start({ ...options, config: { ...config, replicaof } });
    await replica.ask((redis) =>
      eventually('the replica is in step', async () =>
        (await redis.info('replication')).includes('master_link_status:up'),
      ),
    );
    const sentinels = await Promise.all([1, 2, 3].map(() => startSentinel(master.port)));
    await Promise.all(sentinels.map((sentinel) => sentinel.ask(introduced)));
    return new RedisSentinels(master, replica, sentinels);
  }

  /** From now on the replica hears nothing of its master, until it goes on (SIGCONT). */
  async cutOff(): Promise<void> {
    this.replica.signal('SIGSTOP');
    await this.master.ask((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'replica'));
  }

  /** Ends when the sentinels have made the replica the master. */
  async promoted(): Promise<void> {
    await eventually('the replica is the master', () =>
      this.replica.ask(async (redis) => (await redis.info('replication')).includes('role:master')),
    );
  }

  async stop(): Promise<void> {
    await Promise.all([...this.sentinels, this.replica, this.master].map((server) => server.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Sentinels tell of each other every two seconds, and look at a master's replicas every ten; here both happen often (Redis 7;
 * an older one takes its time).
 */
const introduced = async (redis: Redis): Promise<void> => {
  await redis
    .call('SENTINEL', 'DEBUG', 'info-period', 100, 'publish-period', 100, 'ask-period', 100)
    .catch(() => undefined);
  await eventually('the sentinels know each other and the replica', async () =>
    /status=ok,address=[^,]*,slaves=1,sentinels=3/.test(await redis.info('sentinel')),
  );
};

const startSentinel = async (masterPort: number): Promise<RedisServer> => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-sentinel-'));
  const file = path.join(directory, 'sentinel.conf');
  const port = await freePort();
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${directory}`,
    `sentinel monitor ${MASTER} 127.0.0.1 ${masterPort} 2`,
    `sentinel down-after-milliseconds ${MASTER} 500`,
    `sentinel failover-timeout ${MASTER} 3000`,
    '',
  ];
  writeFileSync(file, lines.join('\n'));
  return RedisServer.startSentinel(directory, port, file);
};
