/**
 * Loaded into a worker before it starts (`--import`): BullMQ delivers every job twice and out of order. The real dispatch
 * with one method overridden: what it gives is kept back at random until a later take, comes shuffled, and comes again.
 */
import { BullDispatch } from '../../../shared/store/redis/bull-dispatch.ts';
import type { DispatchedBatch } from '../../../shared/store/redis/dispatch.ts';
import { Random } from '../../sim/random.ts';
import { SEED } from '../../support/seed.ts';

const random = new Random(SEED);
const take = BullDispatch.prototype.take;
const late = new Map<number, DispatchedBatch[]>();
const again = new Map<number, DispatchedBatch[]>();
/** Of each version; the oldest repeats go. */
const REPEATS_MAX = 50;

const shuffled = <T>(list: readonly T[]): T[] =>
  list
    .map((value) => ({ value, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);

BullDispatch.prototype.take = async function (versionId, workerId, max, leaseMs) {
  const kept = late.get(versionId) ?? [];
  const fresh =
    kept.length < max ? await take.call(this, versionId, workerId, max - kept.length, leaseMs) : [];
  const isLate = fresh.map(() => random.chance(0.3));
  late.set(
    versionId,
    fresh.filter((_, at) => isLate[at]),
  );
  const given = [...kept, ...fresh.filter((_, at) => !isLate[at])];
  const repeated = again.get(versionId) ?? [];
  again.set(versionId, shuffled([...repeated, ...given]).slice(-REPEATS_MAX));
  return shuffled([...given, ...given, ...repeated]);
};
