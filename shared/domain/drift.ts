/**
 * How far a column's values of today lie from those of a reference: the population stability index and the two-sample
 * Kolmogorov–Smirnov statistic. Pure; docs/decisions/0018-inference-store.md says what is compared with what.
 */

/** Of the reference's deciles, and of its most frequent values. */
const DECILES = 10;
const TOP_MAX = 20;
/** A share below this counts as this much: the logarithm of nought is no figure. */
const SHARE_MIN = 0.0001;

export type Category = string | number | boolean;

/** What was taken of one column on one side: numbers and times are ordered, texts and booleans are not. */
export type DriftSide = OrderedSide | CategorySide;

export type OrderedSide = {
  readonly kind: 'ordered';
  /** Ascending, the infinities included. */
  readonly sorted: Float64Array;
  readonly nans: number;
  readonly nulls: number;
};

export type CategorySide = {
  readonly kind: 'category';
  readonly counts: ReadonlyMap<Category, number>;
  /** Values that are not null. */
  readonly values: number;
  readonly nulls: number;
};

/** Bins end here; the value itself belongs to the bin before where `isIncluded`. */
type Cut = { readonly value: number; readonly isIncluded: boolean };

/** A side with its bins: what others are compared with. It holds no more of categories than its bins. */
export type DriftReference =
  | {
      readonly kind: 'ordered';
      readonly side: OrderedSide;
      readonly cuts: readonly Cut[];
      readonly counts: readonly number[];
    }
  | {
      readonly kind: 'category';
      readonly top: readonly Category[];
      readonly counts: readonly number[];
    };

/** @param values in any order; NaN are counted by themselves */
export const orderedSide = (values: Float64Array, nulls: number): OrderedSide => {
  // NaN sort last.
  const all = values.toSorted();
  let numbers = all.length;
  while (numbers > 0 && Number.isNaN(all[numbers - 1])) numbers -= 1;
  return { kind: 'ordered', sorted: all.subarray(0, numbers), nans: all.length - numbers, nulls };
};

export const categorySide = (values: Iterable<Category>, nulls: number): CategorySide => {
  const counts = new Map<Category, number>();
  let total = 0;
  for (const value of values) {
    counts.set(value, (counts.get(value) ?? 0) + 1);
    total += 1;
  }
  return { kind: 'category', counts, values: total, nulls };
};

export const driftReference = (side: DriftSide): DriftReference => {
  if (side.kind === 'ordered') {
    const cuts = decileCuts(side.sorted);
    return { kind: 'ordered', side, cuts, counts: orderedCounts(side, cuts) };
  }
  const top = [...side.counts]
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .slice(0, TOP_MAX)
    .map(([value]) => value);
  return { kind: 'category', top, counts: categoryCounts(side, top) };
};

/** Both are null where a side has no rows, or where the two are not of one kind. */
export type Drift = { readonly psi: number | null; readonly ks: number | null };

export const driftOf = (reference: DriftReference, window: DriftSide): Drift => {
  if (reference.kind === 'ordered' && window.kind === 'ordered')
    return {
      psi: stabilityIndex(reference.counts, orderedCounts(window, reference.cuts)),
      ks: kolmogorovSmirnov(reference.side.sorted, window.sorted),
    };
  if (reference.kind === 'category' && window.kind === 'category')
    return { psi: stabilityIndex(reference.counts, categoryCounts(window, reference.top)), ks: null };
  return { psi: null, ks: null };
};

/**
 * The population stability index of two histograms over the same bins: Σ (p − q) · ln(p / q), from 0 on, alike both ways.
 * @returns null where one of them is empty
 */
export const stabilityIndex = (a: readonly number[], b: readonly number[]): number | null => {
  const [rowsA, rowsB] = [sum(a), sum(b)];
  if (rowsA === 0 || rowsB === 0) return null;
  return a.reduce((index, count, bin) => {
    const p = Math.max(count / rowsA, SHARE_MIN);
    const q = Math.max(b[bin]! / rowsB, SHARE_MIN);
    return index + (p - q) * Math.log(p / q);
  }, 0);
};

/**
 * The largest distance between two empirical distribution functions, 0 to 1.
 * @param a ascending, without NaN, as `b`
 * @returns null where one of them is empty
 */
export const kolmogorovSmirnov = (a: Float64Array, b: Float64Array): number | null => {
  if (a.length === 0 || b.length === 0) return null;
  let distance = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const value = Math.min(a[i]!, b[j]!);
    while (i < a.length && a[i] === value) i += 1;
    while (j < b.length && b[j] === value) j += 1;
    distance = Math.max(distance, Math.abs(i / a.length - j / b.length));
  }
  return distance;
};

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

/**
 * A decile is a value that occurs: the smallest one that a tenth, two tenths, … of the values do not exceed. One that
 * coincides with another is common enough for a bin of its own, without which a constant column could move unseen.
 */
const decileCuts = (sorted: Float64Array): readonly Cut[] => {
  if (sorted.length === 0) return [];
  const deciles = Array.from(
    { length: DECILES - 1 },
    (_, i) => sorted[Math.ceil(((i + 1) * sorted.length) / DECILES) - 1]!,
  );
  return [...new Set(deciles)].flatMap((value) => {
    const upTo = { value, isIncluded: true };
    const isCommon = deciles.indexOf(value) !== deciles.lastIndexOf(value);
    return isCommon ? [{ value, isIncluded: false }, upTo] : [upTo];
  });
};

/** The bins between the cuts, then NaN, then nulls. */
const orderedCounts = ({ sorted, nans, nulls }: OrderedSide, cuts: readonly Cut[]): readonly number[] => {
  const ends = [...cuts.map((cut) => valuesBefore(sorted, cut)), sorted.length];
  return [...ends.map((end, bin) => end - (ends[bin - 1] ?? 0)), nans, nulls];
};

const valuesBefore = (sorted: Float64Array, { value, isIncluded }: Cut): number => {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const isBefore = isIncluded ? sorted[middle]! <= value : sorted[middle]! < value;
    if (isBefore) low = middle + 1;
    else high = middle;
  }
  return low;
};

/** The most frequent values, then all others, then nulls. */
const categoryCounts = (
  { counts, values, nulls }: CategorySide,
  top: readonly Category[],
): readonly number[] => {
  const found = top.map((value) => counts.get(value) ?? 0);
  return [...found, values - sum(found), nulls];
};
