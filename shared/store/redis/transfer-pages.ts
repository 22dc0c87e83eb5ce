/** Reads a whole store, function by function, for both sides of a migration. Nobody serves it meanwhile. */
import type { TransferCounts } from '../ports/transfer.ts';
import { countDocuments } from './documents.ts';
import { bucketOf, functionOfId, type Layout, serialOfId } from './layout.ts';
import type { Argument, Link } from './link.ts';
import { countsOf, readCall, SLICE_WIDTH, type StoredCall, unpack } from './packing.ts';

/** Buckets of one page: some thousand calls at most. */
const PAGE_BUCKETS = 16;
const BUCKET_CALLS = 128;
/** Scripts that only read, or write what they are given, need no retention; it must be a number. */
const RETENTION_MS = 86_400_000;
const COMPLETED = 2;

export type Place = { readonly link: Link; readonly layout: Layout; readonly generation: string };
export type PagedCall = {
  readonly fn: number;
  readonly n: number;
  readonly value: Buffer;
  readonly stored: StoredCall;
  /** state, first row, rows, record, place of each part, in row order; empty where they were not asked for. */
  readonly parts: readonly number[];
};

export const runTransfer = <T>(
  { link, layout, generation }: Place,
  script: string,
  fn: number,
  now: number,
  args: readonly Argument[],
): Promise<T> =>
  link.run<T>(script, [layout.key(fn, 'generation')], [generation, now, RETENTION_MS, ...args]);

/** Functions by name, removed ones as well. */
export const functionNumbers = async ({ link, layout }: Place): Promise<ReadonlyMap<string, number>> => {
  const list = await link.command<Buffer[]>('HGETALL', layout.store('functions'));
  const names = new Map<string, number>();
  for (let at = 0; at < list.length; at += 2) names.set(String(list[at]), Number(list[at + 1]));
  return names;
};

/** The calls of a function in the order of their numbers. */
export async function* pagedCalls(place: Place, fn: number, withParts: boolean): AsyncGenerator<PagedCall> {
  for (let after = 0; ; ) {
    const args = [after, PAGE_BUCKETS, withParts ? 1 : 0];
    const reply = await runTransfer<(number | Buffer)[]>(place, 'transfer-read', fn, 0, args);
    for (let at = 1; at < reply.length; at += 3) {
      const [n, value, parts] = reply.slice(at, at + 3) as [number, Buffer, Buffer];
      const numbers = withParts ? unpack<number[]>(parts) : [];
      yield { fn, n, value, stored: readCall(fn, n, value), parts: Array.isArray(numbers) ? numbers : [] };
    }
    if (reply[0] === 0) return;
    after = reply[0] as number;
  }
}

/** The call's idempotency key and its body's digest, where the key still names the call. */
export const idempotencyOfCall = async (
  { link, layout }: Place,
  { fn, n, stored }: PagedCall,
): Promise<{ readonly key: string; readonly bodyDigest: string } | null> => {
  if (stored.idempotency === null) return null;
  const known = await link.command<Buffer | null>('GET', layout.key(fn, 'idempotency', stored.idempotency));
  if (known === null || known.readUIntBE(1, 5) !== n) return null;
  const key = stored.idempotency.slice(stored.idempotency.indexOf(':') + 1);
  return { key, bodyDigest: known.subarray(6, 6 + known[0]!).toString() };
};

export type PackedBatch = [
  version: number,
  reason: number,
  mode: number,
  attempts: number,
  claims: number,
  notBefore: number,
  runMs: number,
  slices: number[],
];
export type OpenBatch = { readonly m: number; readonly fields: PackedBatch };

/** A function's batches that are not settled, in the order of their numbers, with the slices of calls that are not over. */
export const openBatches = async (place: Place, fn: number): Promise<OpenBatch[]> => {
  const { link, layout } = place;
  const list = await link.command<Buffer[]>('HGETALL', layout.key(fn, 'batches'));
  const found: OpenBatch[] = [];
  for (let at = 0; at < list.length; at += 2) {
    const fields = unpack<PackedBatch>(list[at + 1]!);
    const slices = await liveSlices(place, fn, fields[7]);
    if (slices.length === 0) continue;
    const [version, reason, mode, attempts, claims, notBefore, runMs] = fields;
    found.push({
      m: Number(list[at]),
      fields: [version, reason, mode, attempts, claims, notBefore, runMs, slices],
    });
  }
  return found.sort((a, b) => a.m - b.m);
};

const liveSlices = async ({ link, layout }: Place, fn: number, slices: readonly number[]) => {
  const calls = [...new Set(slices.filter((_, at) => at % SLICE_WIDTH === 0))];
  const statuses = await Promise.all(
    calls.map(async (n) => {
      const value = await link.command<Buffer | null>(
        'HGET',
        layout.key(fn, 'calls', bucketOf(n)),
        n % BUCKET_CALLS,
      );
      return value?.[0] ?? COMPLETED;
    }),
  );
  const live = new Set(calls.filter((_, index) => statuses[index]! < COMPLETED));
  return slices.filter((_, at) => live.has(slices[at - (at % SLICE_WIDTH)]!));
};

/** Where a call is stored. */
export const storedValue = ({ link, layout }: Place, callId: number): Promise<Buffer | null> => {
  const [fn, n] = [functionOfId(callId), serialOfId(callId)];
  return link.command<Buffer | null>('HGET', layout.key(fn, 'calls', bucketOf(n)), n % BUCKET_CALLS);
};

/** Calls past their retention at `since` are not counted: they are not moved. */
export const isMoved = ({ expiresAt }: StoredCall, since: number): boolean =>
  expiresAt === null || expiresAt > since;

export const countRedis = async (place: Place, since: number): Promise<TransferCounts> => {
  const { link, layout } = place;
  const numbers = [...(await functionNumbers(place)).values()];
  const rows = { open: 0, ok: 0, failed: 0, cancelled: 0, expired: 0 };
  const sums = {
    versions: 0,
    stagedVersions: 0,
    scalings: 0,
    unfinishedCalls: 0,
    finishedCalls: 0,
    idempotencyKeys: 0,
    openBatches: 0,
  };
  for (const fn of numbers) {
    sums.versions += await link.command<number>('HLEN', layout.key(fn, 'versions'));
    sums.stagedVersions += await link.command<number>('HEXISTS', layout.key(fn, 'function'), 'staged');
    sums.scalings += await link.command<number>('HEXISTS', layout.key(fn, 'function'), 'scaling');
    sums.openBatches += (await openBatches(place, fn)).length;
    for await (const call of pagedCalls(place, fn, false)) {
      const { stored } = call;
      if (!isMoved(stored, since)) continue;
      const counts = countsOf(stored);
      const ended = counts.ok + counts.failed + counts.cancelled + counts.expired;
      rows.open += stored.rows - ended;
      for (const state of ['ok', 'failed', 'cancelled', 'expired'] as const) rows[state] += counts[state];
      if (stored.finishedAt === null) sums.unfinishedCalls += 1;
      else sums.finishedCalls += 1;
      if (stored.idempotency !== null && (await idempotencyOfCall(place, call)) !== null)
        sums.idempotencyKeys += 1;
    }
  }
  const keys = await link.command<number>('HLEN', layout.store('api-keys'));
  const { documents, documentBytes } = await countDocuments(place);
  return { functions: numbers.length, keys, documents, documentBytes, ...sums, rows };
};
