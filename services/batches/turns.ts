/**
 * Whose turn it is, where more batches are unfinished than a process has places: keys get places in equal numbers, and within
 * a key who came first is first, unless it had its turn.
 */

/** A run that came no further for so long, as of a function that nobody runs, gives its place to one that waits. */
export const STALL_MS = 30_000;

export type Waiting = {
  readonly id: string;
  /** The key that made it. */
  readonly owner: string;
  readonly createdAt: number;
  /** When it last gave its place away; null: it had none. */
  readonly turnAt: number | null;
};

export type Place = { readonly id: string; readonly owner: string; readonly progressAt: number };

const held = (places: readonly Place[], owner: string): number =>
  places.filter((place) => place.owner === owner).length;

const orderOf = (places: readonly Place[], { owner, turnAt, createdAt }: Waiting): readonly number[] => [
  held(places, owner),
  turnAt === null ? 0 : 1,
  turnAt ?? createdAt,
];

const isBefore = (a: readonly number[], b: readonly number[]): boolean => {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at]! < b[at]!;
};

/** Which one gets the next place. @param waiting at least one */
export const nextOf = (waiting: readonly Waiting[], places: readonly Place[]): Waiting =>
  waiting
    .map((one) => ({ one, order: orderOf(places, one) }))
    .reduce((first, other) => (isBefore(other.order, first.order) ? other : first)).one;

/**
 * The place that is given to one that waits, where all are taken; null: none is. A key that has two more than another, which
 * waits, gives one also while it gets on: that ends when both have as many.
 */
export const placeToGive = (
  places: readonly Place[],
  waiting: readonly Waiting[],
  now: number,
): Place | null => {
  const byProgress = [...places].sort((a, b) => a.progressAt - b.progressAt);
  const [longest] = byProgress;
  if (longest === undefined || waiting.length === 0) return null;
  if (now - longest.progressAt >= STALL_MS) return longest;
  const wanted = held(places, nextOf(waiting, places).owner) + 2;
  const most = Math.max(...places.map(({ owner }) => held(places, owner)));
  if (most < wanted) return null;
  return byProgress.find(({ owner }) => held(places, owner) === most) ?? null;
};
