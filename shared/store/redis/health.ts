/**
 * What the server says of itself: how durable it is, and how full. Admission stops at a share of its memory below the
 * point where it would refuse by itself, or where its machine would have none left, so that what was accepted has room to
 * settle.
 */
import { SluiceError } from '../../errors/sluice-error.ts';
import type { Usage } from '../ports/retention.ts';
import type { Link } from './link.ts';

/** From here on nothing is admitted. */
const FULL_SHARE = 0.85;
/** And again from here on: results that expire free some percent at a time. */
const ROOM_SHARE = 0.82;
const RETRY_AFTER_SECONDS = 5;

type Info = ReadonlyMap<string, string>;

const parseInfo = (text: string): Info =>
  new Map(
    text.split('\r\n').flatMap((line): [string, string][] => {
      const colon = line.indexOf(':');
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1)]];
    }),
  );

/** Names and values in turn, as CONFIG GET answers them. */
const parseSettings = (text: string): Info => {
  const words = text.split(',');
  return new Map(
    words.flatMap((word, at): [string, string][] => (at % 2 === 0 ? [[word, words[at + 1] ?? '']] : [])),
  );
};

const numberOf = (info: Info, name: string): number => Number(info.get(name) ?? 0);

const hasMaxmemory = (info: Info): boolean => numberOf(info, 'maxmemory') > 0;

/** A server without maxmemory grows until its machine, which is not its own alone, has no more. */
const limitOf = (info: Info): number =>
  hasMaxmemory(info) ? numberOf(info, 'maxmemory') : numberOf(info, 'total_system_memory');

const usedOf = (info: Info): number => {
  const used = numberOf(info, 'used_memory');
  // Buffers to replicas do not count against maxmemory; the machine has given the pages that the allocator holds as well.
  return hasMaxmemory(info)
    ? used - numberOf(info, 'mem_not_counted_for_evict')
    : Math.max(used, numberOf(info, 'used_memory_rss'));
};

/** 0 where the server tells of no limit at all. */
const shareOf = (info: Info): number => {
  const limit = limitOf(info);
  return limit === 0 ? 0 : usedOf(info) / limit;
};

/** What a call takes beside its payload, about (docs/decisions/0007). */
const CALL_BYTES = 200;
/** The server's allocator rounds a payload up to a size class: by a quarter at most, which powers of two meet. */
const ROUNDED_UP = 1.25;

/**
 * Looks at the server's memory from time to time, and counts what is admitted here between two looks: bulk calls fill
 * the rest of it within one. What other processes admit meanwhile is seen at the next look.
 */
export class MemoryGuard {
  readonly #link: Link;
  #isFull = false;
  /** Of the fullest node, at the last look. */
  #share = 0;
  #limitBytes = Number.POSITIVE_INFINITY;
  #hasMaxmemory = true;
  #admittedBytes = 0;

  constructor(link: Link) {
    this.#link = link;
  }

  /**
   * @param bytes of the payload of one call, which counts from now on
   * @throws SluiceError `memory_full` when the server is nearly full, or would be with it
   */
  readonly checkRoom = (bytes: number): void => {
    const admitted = this.#admittedBytes + bytes * ROUNDED_UP + CALL_BYTES;
    const share = this.#share + admitted / this.#limitBytes;
    if (!this.#isFull && share < FULL_SHARE) {
      this.#admittedBytes = admitted;
      return;
    }
    const [limit, wayOut] = this.#hasMaxmemory
      ? ['its maxmemory', 'raise maxmemory']
      : ["its machine's memory", 'give it a larger machine'];
    throw new SluiceError(
      'memory_full',
      `The Redis server would hold ${Math.round(share * 100)} % of ${limit} with this call; nothing is admitted from ${FULL_SHARE * 100} % on, so that running work can settle. Wait until results expire, or ${wayOut}.`,
      { retry_after_seconds: RETRY_AFTER_SECONDS },
    );
  };

  /** Asks every node; the fullest counts, for any function may lie there. */
  async measure(): Promise<Usage> {
    const countedBytes = this.#admittedBytes;
    const infos = (await this.#link.everywhere('INFO', 'memory')).map(parseInfo);
    const fullest = infos.toSorted((a, b) => shareOf(b) - shareOf(a))[0];
    this.#share = fullest === undefined ? 0 : shareOf(fullest);
    this.#limitBytes = (fullest && limitOf(fullest)) || Number.POSITIVE_INFINITY;
    this.#hasMaxmemory = fullest === undefined || hasMaxmemory(fullest);
    this.#admittedBytes = Math.max(0, this.#admittedBytes - countedBytes);
    this.#isFull = this.#share >= (this.#isFull ? ROOM_SHARE : FULL_SHARE);
    const sum = (name: string): number => infos.reduce((all, info) => all + numberOf(info, name), 0);
    return {
      databaseBytes: sum('used_memory_dataset'),
      segmentBytes: 0,
      segmentFiles: 0,
      limitBytes: infos.reduce((all, info) => all + limitOf(info), 0),
      full: this.#isFull,
    };
  }
}

export type Durable = {
  /** `redis:aof=always`, with all that weakens it. */
  readonly durability: string;
  /** A sentence for each setting by which accepted calls can be lost. */
  readonly warnings: readonly string[];
  /** Whether a failover may come, now or later: a replica that is away for a moment can still be promoted. */
  readonly isReplicated: boolean;
};

export type DurabilityQuery = {
  /** Replicas that confirm each admission on their disks (WAITAOF); null: nobody is waited for. */
  readonly waitReplicas: number | null;
  /** Large payloads lie in a bucket. */
  readonly hasBucket: boolean;
  /** The address is of sentinels or of a cluster, or a replica was seen before. */
  readonly wasReplicated: boolean;
};

const FSYNC_ORDER = ['no-aof', 'no', 'unknown', 'everysec', 'always'];

/**
 * Whether a server has replicas, had one a while ago (it keeps what it would send to one that comes back, for an hour by
 * default), or was one.
 */
const hasReplicas = (info: Info): boolean =>
  numberOf(info, 'connected_slaves') > 0 ||
  info.get('repl_backlog_active') === '1' ||
  /[^0]/.test(info.get('master_replid2') ?? '0');

export const readDurability = async (
  link: Link,
  { waitReplicas, hasBucket, wasReplicated }: DurabilityQuery,
): Promise<Durable> => {
  const infos = (await link.everywhere('INFO')).map(parseInfo);
  // Both settings, also of servers that take one name alone.
  const settings = (
    await link.everywhere('CONFIG', 'GET', '*appendfsync*').catch(() => infos.map(() => ''))
  ).map(parseSettings);
  const syncs = infos.map((info, index) => {
    if (info.get('aof_enabled') !== '1') return 'no-aof';
    return settings[index]!.get('appendfsync') ?? 'unknown';
  });
  // WAITAOF itself waits for the end of the rewrite.
  const pauses =
    waitReplicas === null &&
    infos.some(
      (info, index) =>
        info.get('aof_enabled') === '1' && settings[index]!.get('no-appendfsync-on-rewrite') === 'yes',
    );
  const weakest = syncs.toSorted((a, b) => FSYNC_ORDER.indexOf(a) - FSYNC_ORDER.indexOf(b))[0]!;
  const evicting = infos.map((info) => info.get('maxmemory_policy') ?? 'noeviction');
  const policy = evicting.find((name) => name !== 'noeviction');
  const isReplicated = wasReplicated || infos.some(hasReplicas);
  if (waitReplicas !== null) checkWaiting(infos, weakest);
  const words = [weakest === 'no-aof' ? 'aof=off' : `aof=${weakest}`];
  if (pauses) words.push('rewrite=nosync');
  if (waitReplicas !== null) words.push(`waitaof=1+${waitReplicas}`);
  else if (isReplicated) words.push('replicas=async');
  if (policy !== undefined) words.push(`evicts=${policy}`);
  if (hasBucket) words.push('s3');
  return {
    durability: `redis:${words.join(',')}`,
    warnings: [
      ...warningsOf(weakest, policy, isReplicated && waitReplicas === null),
      ...(pauses ? [SYNC_PAUSES] : []),
      ...(infos.every(hasMaxmemory) ? [] : [NO_MAXMEMORY]),
    ],
    isReplicated,
  };
};

/** WAITAOF would refuse each admission, after it was stored. */
const checkWaiting = (infos: readonly Info[], sync: string): void => {
  const refuse = (why: string): SluiceError =>
    new SluiceError('invalid_request', `--redis-waitaof needs ${why}`, { field: 'redisWaitaof' });
  for (const info of infos) {
    const version = info.get('redis_version') ?? '0';
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (major > 7 || (major === 7 && minor >= 2)) continue;
    throw refuse(
      `the command WAITAOF of Redis 7.2; the server is ${version}. Leave it out, or upgrade the server.`,
    );
  }
  if (sync === 'no-aof')
    throw refuse('an append-only file, and the server keeps none. Leave it out, or set appendonly yes.');
  if (sync === 'no')
    throw refuse(
      'a server that syncs its append-only file, and appendfsync is no. Leave it out, or set appendfsync always.',
    );
};

const SYNC_PAUSES =
  'Redis does not sync its append-only file while it rewrites it (no-appendfsync-on-rewrite yes), so calls that are accepted meanwhile can be lost in a power cut; set no-appendfsync-on-rewrite no.';
const NO_MAXMEMORY = `Redis has no maxmemory, so nothing is refused before it holds ${FULL_SHARE * 100} % of its machine's memory, which may be too late beside other processes; set maxmemory.`;

const warningsOf = (sync: string, policy: string | undefined, isAsync: boolean): string[] => {
  const warnings: string[] = [];
  if (policy !== undefined)
    warnings.push(
      `Redis evicts keys (maxmemory-policy ${policy}), so accepted calls can vanish; set maxmemory-policy noeviction.`,
    );
  if (sync === 'no-aof')
    warnings.push(
      'Redis keeps no append-only file, so accepted calls are lost when it restarts; set appendonly yes.',
    );
  else if (sync === 'unknown')
    warnings.push(
      'How often Redis syncs its append-only file cannot be read (CONFIG GET appendfsync is refused), so some seconds of accepted calls may be lost in a crash.',
    );
  else if (sync !== 'always')
    warnings.push(
      `Redis syncs its append-only file with appendfsync ${sync}, so the last accepted calls can be lost in a power cut; set appendfsync always.`,
    );
  if (isAsync)
    warnings.push(
      'Redis replicates asynchronously, so a failover can lose the last accepted calls; set --redis-waitaof on Redis 7.2 or newer.',
    );
  return warnings;
};
