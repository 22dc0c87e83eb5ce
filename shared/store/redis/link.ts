/**
 * The way to Redis: one connection for commands, one for subscriptions.
 *
 *   ask ─► #queue ─ end of the tick ─► pipelines (one; in a cluster one a slot) ─► reply or error
 *                └─ not connected ─► waits, at most `waitMs` ─► store_unavailable
 *
 * Commands of one tick travel together and, outside a cluster, run in the order in which they were asked. Nothing is
 * asked twice by itself: a connection that breaks fails what it was sent with `store_unavailable`, and what was not sent
 * yet waits for the next one. Errors are SluiceErrors of the catalogue.
 */
import { Cluster, type Redis } from 'ioredis';
import { withoutSecrets } from '../../config/redaction.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { atTurnEnd } from '../../runtime/turn-end.ts';
import type { RedisAddress } from './address.ts';
import { type Connection, connectCommands } from './connecting.ts';
import { isConnectionError, isNoScript, toSluiceError, unavailable } from './replies.ts';
import { makeScript, type Script, scripts } from './scripts.ts';
import { isStraight, StraightCommand } from './straight-command.ts';
import { Subscriber } from './subscriber.ts';

export type Argument = string | number | Buffer | Uint8Array;
/** Texts come as Buffers, integers as numbers, a Lua table as an array, false as null. */
export type Reply = number | Buffer | null | readonly Reply[];

type Asked = {
  readonly name: string;
  readonly args: readonly (string | number | Buffer)[];
  /** The first key; commands of one slot share a pipeline in a cluster. */
  readonly key: string;
  readonly script: Script | null;
  readonly resolve: (reply: never) => void;
  readonly reject: (error: Error) => void;
};

type Plain = [name: string, ...args: (string | number | Buffer)[]];

/** Verbs that wait for a connection; more is a caller without limit of its own. */
const WAITING_MAX = 200_000;
/** Commands in one pipeline: its replies are held until the last one came. */
const PIPELINE_COMMANDS = 512;

/** How ioredis says that it did not even try. */
const NOT_SENT = "Stream isn't writeable";

export type LinkOptions = {
  readonly address: RedisAddress;
  /** The URL as it was given; only for messages. */
  readonly url: string;
  /** Shown in CLIENT LIST. */
  readonly name: string;
  /** How long a verb waits for a connection. */
  readonly waitMs?: number;
  /** How long a verb waits for its reply. */
  readonly replyMs?: number;
  /** Replicas whose disks confirm each admission (WAITAOF, with the server's own); null: none are asked. */
  readonly waitReplicas?: number | null;
  /** Asked at each `data_lost` what it comes from; the verb is refused with the answer. */
  readonly onLost?: (error: SluiceError) => Promise<SluiceError>;
};

export class Link {
  readonly subscriber: Subscriber;
  readonly isCluster: boolean;
  /** What the server last said, for messages of verbs that waited in vain. */
  lastError = 'it was not reached yet';
  readonly #connection: Connection;
  readonly #options: Required<Pick<LinkOptions, 'waitMs' | 'replyMs'>> & LinkOptions;
  #queue: Asked[] = [];
  readonly #flushSoon = atTurnEnd(() => this.#flush());
  #isReady = false;
  #isClosed = false;
  #patience: NodeJS.Timeout | undefined;
  #inFlight = 0;
  #lost: SluiceError | null = null;
  #drained: (() => void) | undefined;

  constructor(options: LinkOptions) {
    this.#options = { waitMs: 5000, replyMs: 10_000, ...options };
    const { address, name } = options;
    this.isCluster = address.kind === 'cluster';
    this.#connection = connectCommands(address, name, this.#options.replyMs, () => !this.#isClosed);
    this.#connection.on('error', (error: Error) => {
      this.lastError = error.message;
    });
    this.#connection.on('ready', () => void this.#becomeReady());
    for (const event of ['close', 'end', 'reconnecting'])
      this.#connection.on(event, () => {
        this.#isReady = false;
      });
    this.subscriber = new Subscriber(address, `${name}-sub`, () => this.#nodes());
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether each admission is confirmed by disks before it is answered. */
  get waitsForDisks(): boolean {
    return this.#options.waitReplicas != null;
  }

  /** Runs scripts/NAME.lua. All keys share a slot; the reply is as Lua returned it. */
  run<T = Reply>(script: string, keys: readonly string[], args: readonly Argument[]): Promise<T> {
    const found = scripts().get(script);
    if (found === undefined) throw new Error(`there is no script ${script}`);
    return this.#runScript(found, keys, args);
  }

  /** Runs a script that is in no file (tests). */
  runText<T = Reply>(text: string, keys: readonly string[], args: readonly Argument[]): Promise<T> {
    return this.#runScript(makeScript('text', text), keys, args);
  }

  /** One command; its first argument is its key. */
  command<T = Reply>(name: string, ...args: Argument[]): Promise<T> {
    return this.#ask(name, args, String(args[0] ?? ''), null);
  }

  /**
   * @throws SluiceError `invalid_request` where the server has no database of the address's number, or refuses it: the library goes on
   * with the first one in silence
   */
  async checkDatabase(): Promise<void> {
    const { address, url } = this.#options;
    if (address.database === 0) return;
    await this.command('SELECT', address.database).catch((error: Error) => {
      if (error instanceof SluiceError) throw error;
      throw new SluiceError(
        'invalid_request',
        `The store's address "${withoutSecrets(url)}" names the database ${address.database}, which the server does not have; give one that it has, or none.`,
      );
    });
  }

  /** Asks every master (INFO, CONFIG GET), whose answers come in no order. */
  async everywhere(name: string, ...args: string[]): Promise<string[]> {
    return (await this.#askNodes('master', name, args)).map(String);
  }

  /** How many connections of any client have subscribed to a channel. */
  async listeners(channel: string): Promise<number> {
    const told = await this.#askNodes('all', 'PUBSUB', ['NUMSUB', channel]);
    return told.reduce<number>((sum, reply) => sum + Number((reply as unknown[])[1]), 0);
  }

  async #askNodes(role: 'master' | 'all', name: string, args: readonly string[]): Promise<unknown[]> {
    await this.command('PING');
    const nodes = this.#connection instanceof Cluster ? this.#connection.nodes(role) : [this.#connection];
    try {
      return await Promise.all(nodes.map((node: Redis) => node.call(name, ...args)));
    } catch (error) {
      throw toSluiceError(error as Error);
    }
  }

  /** Ends when everything that was published before has been told to this client's listeners (in a cluster: nearly). */
  async catchUp(): Promise<void> {
    await this.subscriber.ping();
  }

  /** From now on every verb is refused with this error. */
  lose(error: SluiceError): void {
    this.#lost = error;
    const waiting = this.#queue;
    this.#queue = [];
    for (const { reject } of waiting) reject(error);
    this.#checkDrained();
  }

  /** What was asked is answered first, within the usual waits. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#queue.length > 0 || this.#inFlight > 0)
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    clearTimeout(this.#patience);
    this.subscriber.close();
    this.#connection.disconnect();
  }

  #runScript<T>(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<T> {
    return this.#ask('evalsha', [script.sha, keys.length, ...keys, ...args], keys[0] ?? '', script);
  }

  #ask<T>(name: string, args: readonly Argument[], key: string, script: Script | null): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#isClosed || this.#lost !== null) {
        reject(this.#lost ?? new SluiceError('shutting_down', 'The store is closed.'));
        return;
      }
      if (this.#queue.length >= WAITING_MAX) {
        reject(unavailable(`${WAITING_MAX} verbs wait for it already`));
        return;
      }
      this.#queue.push({ name, args: args.map(toArgument), key, script, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isReady) this.#flushSoon();
    else this.#startPatience();
  }

  /** What waits without a connection is refused together: at the latest `waitMs` after its oldest came. */
  #startPatience(): void {
    this.#patience ??= setTimeout(() => {
      this.#patience = undefined;
      if (this.#isReady) return;
      const waiting = this.#queue;
      this.#queue = [];
      const { url, waitMs } = this.#options;
      const error = unavailable(
        `no connection to ${withoutSecrets(url)} within ${waitMs} ms (${this.lastError})`,
      );
      for (const { reject } of waiting) reject(error);
      this.#checkDrained();
    }, this.#options.waitMs);
  }

  async #becomeReady(): Promise<void> {
    // Loaded before the first verb: one that is only loaded when it is missed would run behind its neighbours.
    await this.#loadScripts().catch((error: Error) => {
      this.lastError = error.message;
    });
    if (this.#connection.status !== 'ready') return;
    this.#isReady = true;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    this.#flush();
  }

  async #loadScripts(): Promise<void> {
    const nodes = this.#connection instanceof Cluster ? this.#connection.nodes('master') : [this.#connection];
    await Promise.all(
      nodes.map(async (node: Redis) => {
        const pipeline = node.pipeline();
        for (const { text } of scripts().values()) pipeline.script('LOAD', text);
        await pipeline.exec();
      }),
    );
  }

  #flush(): void {
    if (!this.#isReady || this.#queue.length === 0) return;
    const asked = this.#queue;
    this.#queue = [];
    const groups = this.isCluster ? Object.values(Object.groupBy(asked, ({ key }) => tagOf(key))) : [asked];
    for (const group of groups)
      for (let at = 0; at < group!.length; at += PIPELINE_COMMANDS)
        void this.#send(group!.slice(at, at + PIPELINE_COMMANDS));
  }

  async #send(group: readonly Asked[]): Promise<void> {
    this.#inFlight += 1;
    const { waitMs, replyMs, waitReplicas } = this.#options;
    const mustSync = waitReplicas != null && group.some(isAdmission);
    const commands: Plain[] = group.map(({ name, args }) => [name, ...args]);
    if (mustSync) commands.push(['WAITAOF', 1, waitReplicas, waitMs]);
    const late = Promise.withResolvers<never>();
    // Beyond the socket's own limit: a cluster's redirections and new connections take their time as well.
    const timer = setTimeout(
      () => late.reject(new Error(`Command timed out after ${waitMs + replyMs} ms`)),
      waitMs + replyMs,
    );
    try {
      const replies = (await Promise.race([this.#exchange(commands, mustSync), late.promise])) ?? [];
      const unsynced = mustSync ? notSynced(replies.at(-1), waitReplicas) : null;
      group.forEach((asked, index) => {
        if (unsynced !== null && isAdmission(asked)) {
          this.#fail(asked, unsynced);
          return;
        }
        const [error, reply] = replies[index] ?? [new Error('Connection is closed.')];
        if (error === null) asked.resolve(reply as never);
        else this.#fail(asked, error);
      });
    } catch (error) {
      for (const asked of group) this.#fail(asked, error as Error);
    } finally {
      clearTimeout(timer);
      this.#inFlight -= 1;
      this.#checkDrained();
    }
  }

  /**
   * The replies, or null where the connection went away before they were sent.
   * @param isJoint all go to one node: alone, a WAITAOF names no key, and a cluster's client asks any node about its disk
   */
  #exchange(commands: readonly Plain[], isJoint: boolean): Promise<[Error | null, unknown][] | null> {
    const mayPart = !(isJoint && this.isCluster);
    if (mayPart && commands.some((command) => command.some(isStraight)))
      return this.#exchangeStraight(commands);
    const pipeline = this.#connection.pipeline();
    for (const [name, ...args] of commands) pipeline.callBuffer(name, ...args);
    return pipeline.exec();
  }

  async #exchangeStraight(commands: readonly Plain[]): Promise<[Error | null, unknown][]> {
    const replies = await Promise.allSettled(
      commands.map(([name, ...args]) => this.#connection.sendCommand(new StraightCommand(name, args))),
    );
    return replies.map((one) => (one.status === 'fulfilled' ? [null, one.value] : [one.reason, null]));
  }

  #fail(asked: Asked, error: Error): void {
    if (isNoScript(error) && asked.script !== null && asked.name === 'evalsha') {
      const args = [asked.script.text, ...asked.args.slice(1)];
      this.#queue.push({ ...asked, name: 'eval', args });
      this.#schedule();
      return;
    }
    if (error.message.startsWith(NOT_SENT) && !this.isCluster) {
      // The connection has gone, and its end was not told yet: this waits for the next one, as what comes after it.
      this.#isReady = false;
      this.#queue.push(asked);
      this.#schedule();
      return;
    }
    if (isConnectionError(error) && this.#connection instanceof Cluster) this.#connection.refreshSlotsCache();
    const told = toSluiceError(error);
    const { onLost } = this.#options;
    if (onLost !== undefined && told instanceof SluiceError && told.code === 'data_lost')
      void onLost(told).then(asked.reject);
    else asked.reject(told);
  }

  #checkDrained(): void {
    if (this.#queue.length === 0 && this.#inFlight === 0) this.#drained?.();
  }

  #nodes(): { host: string; port: number }[] {
    if (!(this.#connection instanceof Cluster)) return [];
    return this.#connection
      .nodes('all')
      .map(({ options }) => ({ host: options.host ?? '127.0.0.1', port: options.port ?? 6379 }));
  }
}

const toArgument = (argument: Argument): string | number | Buffer =>
  argument instanceof Uint8Array && !Buffer.isBuffer(argument)
    ? Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength)
    : (argument as string | number | Buffer);

const isAdmission = ({ script }: Asked): boolean => script?.name === 'admit';

/** @param told what WAITAOF answered: disks of the server itself (0 or 1), and of its replicas */
const notSynced = (told: [Error | null, unknown] | undefined, replicas: number): Error | null => {
  const [error, counts] = told ?? [new Error('Connection is closed.')];
  if (error !== null) return error;
  const [local = 0, others = 0] = counts as number[];
  if (local >= 1 && others >= replicas) return null;
  return unavailable(`${others} of ${replicas} replicas confirmed the call on their disks in time`);
};

/** The part of a key that decides its slot. */
const tagOf = (key: string): string => /\{([^}]+)\}/.exec(key)?.[1] ?? key;
