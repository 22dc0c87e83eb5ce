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
  readonly #gapListeners = new Set<() => void>();
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
  async add(channel: string, listener: ChannelListener): Promise<() => void> {
    const entry: ChannelListener = (message) => listener(message);
    const listeners = this.#channels.get(channel) ?? new Set();
    this.#channels.set(channel, listeners);
    listeners.add(entry);
    await this.#subscribe([channel]);
    return () => {
      if (!listeners.delete(entry) || listeners.size > 0 || this.#channels.get(channel) !== listeners) return;
      this.#channels.delete(channel);
      if (this.#connection?.status === 'ready') this.#connection.unsubscribe(channel).catch(() => undefined);
    };
  }

  /** Called when messages may have been missed. */
  onGap(listener: () => void): void {
    this.#gapListeners.add(listener);
  }

  /** Ends when everything that came before it has been told. Does nothing without a connection. */
  async ping(): Promise<void> {
    if (this.#channels.size > 0) await this.#subscribe([this.#channels.keys().next().value!]);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    clearInterval(this.#heartbeat);
    this.#connection?.disconnect();
  }

  async #subscribe(channels: readonly string[]): Promise<void> {
    if (this.#isClosed) return;
    this.#connection ??= this.#connect();
    const connection = this.#connection;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, SUBSCRIBE_MS);
    connection.subscribe(...channels).then(
      () => resolve(),
      () => resolve(),
    );
    await promise;
    clearTimeout(timer);
  }

  #connect(): Redis {
    const connection = connectSubscriber(this.#address, this.#name, this.#nodes(), this.#attempt);
    const isFirst = this.#attempt === 0;
    connection.on('error', () => undefined);
    connection.on('message', (channel: string, message: string) => this.#tell(channel, message));
    connection.once('ready', () => void this.#resume(connection, isFirst));
    connection.once('end', () => this.#replace(connection));
    return connection;
  }

  async #resume(connection: Redis, isFirst: boolean): Promise<void> {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => void this.#checkAlive(connection), HEARTBEAT_MS).unref();
    if (isFirst) return;
    const channels = [...this.#channels.keys()];
    try {
      if (channels.length > 0) await connection.subscribe(...channels);
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

  #tell(channel: string, message: string): void {
    for (const listener of [...(this.#channels.get(channel) ?? [])]) listener(message);
  }
}
