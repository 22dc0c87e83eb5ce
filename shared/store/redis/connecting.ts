/** Makes ioredis connections of an address. All come back for ever with a back-off; none queues commands while it is away. */
import { readFileSync } from 'node:fs';
import { connect as connectPlain, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { AbstractConnector, Cluster, Redis, type StandaloneConnectionOptions } from 'ioredis';
import type { RedisAddress, RedisHost } from './address.ts';
import { cutReplies } from './large-replies.ts';

export type Connection = Redis | Cluster;

/** A connection that is tried for longer is as good as refused; half of what a verb waits. */
const CONNECT_MS = 2500;
const BACKOFF_MIN_MS = 20;
const BACKOFF_MAX_MS = 1000;

/** 20 ms, doubling to 1 s, less up to a half so that many clients do not come back at once. */
export const backoffMs = (attempt: number): number => {
  const full = Math.min(BACKOFF_MIN_MS * 2 ** Math.min(attempt - 1, 10), BACKOFF_MAX_MS);
  return Math.round(full * (1 - Math.random() / 2));
};

const tlsOf = ({ isTls, tlsFiles, serverName }: RedisAddress): ConnectionOptions | undefined => {
  if (!isTls) return undefined;
  const read = (file: string | null) => (file === null ? undefined : readFileSync(file));
  const options: ConnectionOptions = {};
  const [ca, cert, key] = [read(tlsFiles.ca), read(tlsFiles.cert), read(tlsFiles.key)];
  if (ca !== undefined) options.ca = ca;
  if (cert !== undefined) options.cert = cert;
  if (key !== undefined) options.key = key;
  if (serverName !== null) options.servername = serverName;
  return options;
};

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the members that are undefined: for ioredis they would hide its own defaults. */
const given = <T extends object>(options: T): Given<T> =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Given<T>;

/** @param replyMs a socket on which nothing comes for so long while a command waits is half-open, and is cut */
const nodeOptions = (address: RedisAddress, name: string, replyMs: number | undefined) =>
  given({
    username: address.username ?? undefined,
    password: address.password ?? undefined,
    tls: tlsOf(address),
    connectionName: name,
    connectTimeout: CONNECT_MS,
    socketTimeout: replyMs,
    // What was sent may have been done: only the asker knows whether it may be asked twice.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    autoResubscribe: false,
    replyMapping: 'legacy' as const,
  });

const sentinelOptions = (address: RedisAddress) =>
  given({
    sentinels: [...address.hosts],
    name: address.masterName,
    sentinelUsername: address.sentinelUsername ?? undefined,
    sentinelPassword: address.sentinelPassword ?? undefined,
    enableTLSForSentinelMode: address.isTls,
    sentinelTLS: tlsOf(address),
    sentinelCommandTimeout: CONNECT_MS,
    failoverDetector: true,
    sentinelReconnectStrategy: backoffMs,
  });

const singleOptions = (address: RedisAddress, name: string, replyMs: number | undefined) => ({
  ...nodeOptions(address, name, replyMs),
  ...(address.kind === 'sentinel' ? sentinelOptions(address) : address.hosts[0]),
  db: address.database,
  enableOfflineQueue: false,
});

/** Between an end that nobody asked for and the next try; a few round trips to a sentinel. */
const REVIVE_MS = 100;

/**
 * ioredis ends a connection for good when its look for the master is broken off, as by the very message of the sentinels
 * that there is a new one: it is made to connect again as long as it is wanted.
 */
const reviveWhile = <C extends Connection>(connection: C, isWanted: () => boolean): C => {
  connection.on('end', () => {
    setTimeout(() => {
      if (isWanted() && connection.status === 'end') connection.connect().catch(() => undefined);
    }, REVIVE_MS).unref();
  });
  return connection;
};

/**
 * The connection for commands. It connects at once; `error` events are only told, since it comes back by itself while
 * it is wanted.
 */
export const connectCommands = (
  address: RedisAddress,
  name: string,
  replyMs: number,
  isWanted: () => boolean,
): Connection => reviveWhile(makeCommands(address, name, replyMs), isWanted);

/** As the connector of ioredis, whose sockets read by `data` events alone. */
class CuttingConnector extends AbstractConnector {
  readonly #options: StandaloneConnectionOptions;

  constructor(options: unknown) {
    super((options as StandaloneConnectionOptions).disconnectTimeout ?? 0);
    this.#options = options as StandaloneConnectionOptions;
  }

  async connect(): Promise<Socket> {
    this.connecting = true;
    // Whoever connects hears of it first, and may have changed its mind.
    await new Promise((resolve) => process.nextTick(resolve));
    if (!this.connecting) throw new Error('Connection is closed.');
    const { host = '127.0.0.1', port = 6379, tls } = this.#options;
    const options = { host, port, onread: cutReplies() };
    const stream = tls === undefined ? connectPlain(options) : connectTls({ ...options, ...tls });
    stream.once('error', (error) => {
      this.firstError = error;
    });
    this.stream = stream;
    return stream;
  }
}

/** The connector of sentinels makes a socket of what this answers, so that it tells the socket how to read as well. */
const cutting = (address: string): { readonly host: string; readonly port: number } => {
  const colon = address.lastIndexOf(':');
  const [host, port] = [address.slice(0, colon), Number(address.slice(colon + 1))];
  return Object.assign({ host, port }, { onread: cutReplies() });
};

const makeCommands = (address: RedisAddress, name: string, replyMs: number): Connection => {
  if (address.kind !== 'cluster') {
    return new Redis({
      ...singleOptions(address, name, replyMs),
      ...(address.kind === 'sentinel' ? { natMap: cutting } : { Connector: CuttingConnector }),
      retryStrategy: backoffMs,
      sentinelRetryStrategy: backoffMs,
      // A master that became a replica: its successor is looked up by connecting anew.
      reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? 1 : false),
    });
  }
  return new Cluster([...address.hosts], {
    redisOptions: { ...nodeOptions(address, name, replyMs), Connector: CuttingConnector },
    clusterRetryStrategy: backoffMs,
    enableOfflineQueue: false,
    // A node that went away may have done what it was sent, so that it is not asked of the next one.
    retryDelayOnFailover: 0,
    slotsRefreshTimeout: CONNECT_MS,
    slotsRefreshInterval: 5000,
    // Left to the socket, so that a certificate is checked against the name and not the number.
    dnsLookup: (host, callback) => callback(null, host),
  });
};

/** A connection for subscriptions; it is used once and replaced when it ends. */
export const connectSubscriber = (
  address: RedisAddress,
  name: string,
  nodes: readonly RedisHost[],
  attempt: number,
): Redis => {
  const options = { retryStrategy: null, sentinelRetryStrategy: () => null, enableOfflineQueue: true };
  if (address.kind !== 'cluster')
    return new Redis({ ...singleOptions(address, name, undefined), ...options });
  // Every node of a cluster hears what is published on any.
  const known = nodes.length > 0 ? nodes : address.hosts;
  const node = known[attempt % known.length]!;
  return new Redis({
    ...nodeOptions(address, name, undefined),
    ...node,
    ...options,
  });
};
