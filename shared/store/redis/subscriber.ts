/**
 * One connection that hears what is published. It comes back for ever; what was published meanwhile is lost, so that
 * `onGap` listeners look again at what they watch.
 */
import type { Redis } from 'ioredis';
import type { RedisAddress, RedisHost } from './address.ts';
import { backoffMs, connectSubscriber } from './connecting.ts';

export type ChannelListener = (message: string) => void;

/** How long a subscription is waited for: the slow poll stands behind it. */
const SUBSCRIBE_MS = 5000;
/** A connection on which not even a ping is answered is half-open. */
const HEARTBEAT_MS = 5000;

export class Subscriber {
  readonly #address: RedisAddress;
  readonly #name: string;
  readonly #nodes: () => readonly RedisHost[];
  readonly #channels = new Map<string, Set<ChannelListener>>();
  readonly #patterns = new Map<string, Set<ChannelListener>>();
  readonly #gapListeners = new Set<() => void>();
  /** The first subscription that the server refused its user, and how; messages to it are found by looking, late. */
  refused: string | null = null;
  #connection: Redis | undefined;
  #attempt = 0;
  #retry: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(address: RedisAddress, name: string, nodes: () => readonly RedisHost[]) {
    this.#address = address;
    this.#name = name;
    this.#nodes = nodes;
  }

  /**
   * Ends when the server will tell what is published from now on. Where it does not answer in time this ends as well:
   * the subscription is made later, and `onGap` told then.
   */
  add(channel: string, listener: ChannelListener): Promise<() => void> {
    return this.#add(this.#channels, channel, listener);
  }

  /** All channels that a glob names, also those that are not used yet. */
  addPattern(pattern: string, listener: ChannelListener): Promise<() => void> {
    return this.#add(this.#patterns, pattern, listener);
  }

  /** Called when messages may have been missed. */
  onGap(listener: () => void): void {
    this.#gapListeners.add(listener);
  }

  /** Ends when everything that came before it has been told. Does nothing without a connection. */
  async ping(): Promise<void> {
    const [channel] = this.#channels.keys();
    const [pattern] = this.#patterns.keys();
    if (channel !== undefined) await this.#subscribe([channel], []);
    else if (pattern !== undefined) await this.#subscribe([], [pattern]);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    clearInterval(this.#heartbeat);
    this.#connection?.disconnect();
  }

  async #add(
    all: Map<string, Set<ChannelListener>>,
    name: string,
    listener: ChannelListener,
  ): Promise<() => void> {
    const entry: ChannelListener = (message) => listener(message);
    const listeners = all.get(name) ?? new Set();
    all.set(name, listeners);
    listeners.add(entry);
    const isPattern = all === this.#patterns;
    await this.#subscribe(isPattern ? [] : [name], isPattern ? [name] : []);
    return () => {
      if (!listeners.delete(entry) || listeners.size > 0 || all.get(name) !== listeners) return;
      all.delete(name);
      const connection = this.#connection;
      if (connection?.status !== 'ready') return;
      const leaving = isPattern ? connection.punsubscribe(name) : connection.unsubscribe(name);
      leaving.catch(() => undefined);
    };
  }

  async #subscribe(channels: readonly string[], patterns: readonly string[]): Promise<void> {
    if (this.#isClosed) return;
    this.#connection ??= this.#connect();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, SUBSCRIBE_MS);
    ask(this.#connection, channels, patterns).then(resolve, ({ message }: Error) => {
      if (message.startsWith('NOPERM'))
        this.refused ??= `${[...channels, ...patterns].join(' ')}: ${message}`;
      resolve();
    });
    await promise;
    clearTimeout(timer);
  }

  #connect(): Redis {
    const connection = connectSubscriber(this.#address, this.#name, this.#nodes(), this.#attempt);
    const isFirst = this.#attempt === 0;
    connection.on('error', () => undefined);
    connection.on('message', (channel: string, message: string) =>
      tell(this.#channels.get(channel), message),
    );
    connection.on('pmessage', (pattern: string, _channel: string, message: string) =>
      tell(this.#patterns.get(pattern), message),
    );
    connection.once('ready', () => void this.#resume(connection, isFirst));
    connection.once('end', () => this.#replace(connection));
    return connection;
  }

  async #resume(connection: Redis, isFirst: boolean): Promise<void> {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => void this.#checkAlive(connection), HEARTBEAT_MS).unref();
    if (isFirst) return;
    try {
      await ask(connection, [...this.#channels.keys()], [...this.#patterns.keys()]);
    } catch {
      // The connection has ended again, and its successor subscribes.
      return;
    }
    this.#attempt = 1;
    for (const listener of [...this.#gapListeners]) listener();
  }

  async #checkAlive(connection: Redis): Promise<void> {
    const timer = setTimeout(() => connection.disconnect(), HEARTBEAT_MS - 1000);
    await connection.ping().catch(() => undefined);
    clearTimeout(timer);
  }

  #replace(ended: Redis): void {
    if (this.#isClosed || this.#connection !== ended) return;
    clearInterval(this.#heartbeat);
    this.#attempt += 1;
    this.#retry = setTimeout(() => {
      if (!this.#isClosed) this.#connection = this.#connect();
    }, backoffMs(this.#attempt));
  }
}

const tell = (listeners: ReadonlySet<ChannelListener> | undefined, message: string): void => {
  for (const listener of [...(listeners ?? [])]) listener(message);
};

const ask = async (
  connection: Redis,
  channels: readonly string[],
  patterns: readonly string[],
): Promise<void> => {
  const asked: Promise<unknown>[] = [];
  if (channels.length > 0) asked.push(connection.subscribe(...channels));
  if (patterns.length > 0) asked.push(connection.psubscribe(...patterns));
  await Promise.all(asked);
};
