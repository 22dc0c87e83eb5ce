/** The Redis store: many processes on any number of machines, one server, sentinels or a cluster (docs/decisions/0007). */
import { randomUUID } from 'node:crypto';
import { withoutSecrets } from '../../config/redaction.ts';
import { checkPrefix } from '../../config/redis-prefix.ts';
import type { SluiceError } from '../../errors/sluice-error.ts';
import type { RedisOptions, StoreServer } from '../ports/server.ts';
import type { Store } from '../ports/store.ts';
import { checkServable } from '../transfer-mark.ts';
import { parseAddress } from './address.ts';
import { makeRedisClient, REPLY_MS, type RedisTicket, WAIT_MS } from './client.ts';
import { ServerClock, skewMsMaxOf } from './clock.ts';
import { Directory } from './directory.ts';
import { readDurability } from './health.ts';
import { checkBucket } from './large-bytes.ts';
import { Layout } from './layout.ts';
import { Link } from './link.ts';
import { readMark } from './transfer-mark.ts';

/**
 * Reaches the server, makes or reads the store's generation, and says what its settings may lose.
 *
 * @throws SluiceError `invalid_request` (address, prefix, a server too old, another bucket than before), `store_unavailable`
 * (no answer in time, a bucket that refuses, a clock that is off)
 */
export const openRedisStore = async (options: RedisOptions): Promise<StoreServer> => {
  const { url, prefix, waitReplicas, bucket = null } = options;
  checkPrefix(prefix);
  const address = parseAddress(url);
  const link = new Link({ address, url, name: 'sluice-open', waitMs: WAIT_MS, replyMs: REPLY_MS });
  try {
    const layout = new Layout(prefix);
    await link.checkDatabase();
    checkServable(await readMark(link, layout), withoutSecrets(url));
    const generation = await readGeneration(link, layout);
    await checkBucket(link, layout, bucket);
    const { durability, warnings, isReplicated } = await readDurability(link, {
      waitReplicas,
      hasBucket: bucket !== null,
      wasReplicated: address.kind !== 'standalone',
    });
    await checkPublishing(link, layout);
    const channels = await readChannelWarning(link, layout);
    const forgotten = await forgetLost(link, layout, generation);
    const skewMsMax = skewMsMaxOf(options.leaseMs ?? Number.POSITIVE_INFINITY);
    await checkClock(link, skewMsMax);
    for (const sentence of [...warnings, ...channels, ...forgotten]) options.onWarning(sentence);
    const { queueRowsMax, queueBytesMax, retentionMs, acknowledgedRetentionMs } = options;
    const limits = { queueRowsMax, queueBytesMax, retentionMs, acknowledgedRetentionMs };
    const store = { url, prefix, generation, durability, isReplicated, waitReplicas, bucket };
    return serve({ kind: 'redis', ...store, limits, skewMsMax }, warnings, options.onWarning);
  } finally {
    await link.close();
  }
};

const checkClock = async (link: Link, skewMsMax: number): Promise<void> => {
  const clock = new ServerClock(link, skewMsMax);
  await clock.measure();
  const fault = clock.fault();
  if (fault !== null) throw fault;
};

/** @param warnings what `onWarning` was told of the server's settings */
const serve = (
  ticket: RedisTicket,
  warnings: readonly string[],
  onWarning: (sentence: string) => void,
): StoreServer => {
  const clients = new Set<Store>();
  let told = new Set(warnings);
  const onSettings = (sentences: readonly string[]): void => {
    const before = told;
    told = new Set(sentences);
    for (const sentence of told) if (!before.has(sentence)) onWarning(sentence);
  };
  // All of a process have one clock: the first and the last that sees it say so.
  const off = new Set<object>();
  const sees = (seer: object, fault: SluiceError | null): void => {
    if (fault !== null && off.size === 0)
      onWarning(`${fault.message} Until then this process takes no work.`);
    if (fault !== null) off.add(seer);
    else if (off.delete(seer) && off.size === 0 && clients.size > 0)
      onWarning("This machine's clock is right again.");
  };
  return {
    connect: () => {
      const seer = {};
      const onClock = (fault: SluiceError | null): void => sees(seer, fault);
      const client = makeRedisClient(ticket, { onClock, onSettings });
      const close = async (): Promise<void> => {
        await client.close();
        clients.delete(connected);
        // It looks no more; those that are left do.
        onClock(null);
      };
      const connected: Store = { ...client, close };
      clients.add(connected);
      return connected;
    },
    ticket: () => ({ data: ticket, transfer: [] }),
    close: async () => {
      await Promise.all([...clients].map((client) => client.close()));
    },
  };
};

const readGeneration = async (link: Link, layout: Layout): Promise<string> => {
  const key = layout.store('generation');
  await link.command('SET', key, randomUUID(), 'NX');
  return String(await link.command<Buffer>('GET', key));
};

/** No function has this number. */
const NO_FUNCTION = 0;

/** Scripts publish behind what they write: of a user that may not, each call would be kept and refused. */
const checkPublishing = async (link: Link, layout: Layout): Promise<void> => {
  const channels = (['owner', 'ready', 'ended', 'calls'] as const).map((channel) =>
    layout.channel(NO_FUNCTION, channel),
  );
  await link.run('tell', [layout.store('generation')], channels);
};

/** What each process subscribes to at some time; a user may be kept from it. */
const readChannelWarning = async ({ subscriber }: Link, layout: Layout): Promise<string[]> => {
  const patterns = (['ready', 'ended'] as const).map((channel) => layout.channels(channel));
  const channels = (['owner', 'calls'] as const).map((channel) => layout.channel(1, channel));
  channels.push(layout.store('functions-changed'));
  const ignore = (): void => undefined;
  await Promise.all([
    ...patterns.map((pattern) => subscriber.addPattern(pattern, ignore)),
    ...channels.map((channel) => subscriber.add(channel, ignore)),
  ]);
  if (subscriber.refused === null) return [];
  return [
    `Redis refuses its user a subscription (${subscriber.refused}), so that each step of a call is found a second later; allow the channels that docs/OPERATIONS.md lists.`,
  ];
};

/** A node of a cluster that came back empty took its functions with it: their names are free to be deployed again. */
const forgetLost = async (link: Link, layout: Layout, generation: string): Promise<string[]> => {
  const directory = new Directory({ link, layout, owned: () => [] });
  const keys = [layout.store('generation'), layout.store('functions')];
  const sentences: string[] = [];
  for (const [name, fn] of await directory.names()) {
    const found = await link.command<Buffer | null>('GET', layout.key(fn, 'generation'));
    if (String(found) === generation) continue;
    await link.run('name-function', keys, [generation, name, '', fn]);
    sentences.push(`The data of function "${name}" was lost; deploy it again.`);
  }
  return sentences;
};
