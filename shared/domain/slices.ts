/** Arithmetic on slice lists. A list's rows are numbered 0, 1, … through its slices in order. */
import type { Slice } from './call.ts';

export const rowsOf = (slices: readonly Slice[]): number =>
  slices.reduce((rows, slice) => rows + slice.count, 0);

const part = (slice: Slice, from: number, count: number): Slice => ({
  callId: slice.callId,
  from: slice.from + from,
  count,
});

/** The rows [from, from + count) of the list, as slices. Rows beyond its end are left out. */
export const cut = (slices: readonly Slice[], from: number, count: number): Slice[] => {
  const kept: Slice[] = [];
  const end = from + count;
  let at = 0;
  for (const slice of slices) {
    const first = Math.max(from - at, 0);
    const last = Math.min(end - at, slice.count);
    if (first < last) kept.push(part(slice, first, last - first));
    at += slice.count;
    if (at >= end) break;
  }
  return kept;
};

/** The list before and from `row` on. */
export const splitAt = (slices: readonly Slice[], row: number): [Slice[], Slice[]] => [
  cut(slices, 0, row),
  cut(slices, row, Number.POSITIVE_INFINITY),
];

/** Two parts whose sizes differ by at most one row; the first is the larger. */
export const halves = (slices: readonly Slice[]): [Slice[], Slice[]] =>
  splitAt(slices, Math.ceil(rowsOf(slices) / 2));

/** Every row as a slice of its own. */
export const rowByRow = (slices: readonly Slice[]): Slice[] =>
  slices.flatMap((slice) => Array.from({ length: slice.count }, (_, row) => part(slice, row, 1)));

const without = (slice: Slice, dropped: Slice): Slice[] => {
  const from = Math.max(slice.from, dropped.from);
  const end = Math.min(slice.from + slice.count, dropped.from + dropped.count);
  if (slice.callId !== dropped.callId || from >= end) return [slice];
  return [
    part(slice, 0, from - slice.from),
    part(slice, end - slice.from, slice.from + slice.count - end),
  ].filter((left) => left.count > 0);
};

/** The list without the rows that `dropped` names; the order stays. */
export const dropRows = (slices: readonly Slice[], dropped: readonly Slice[]): Slice[] =>
  dropped.reduce<Slice[]>((left, gone) => left.flatMap((slice) => without(slice, gone)), [...slices]);
