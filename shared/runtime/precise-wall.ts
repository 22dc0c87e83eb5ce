/** The wall clock with the fraction of a millisecond that `Date.now()` cuts off. */

type Reading = () => number;

/**
 * Milliseconds since the epoch, never more than a millisecond from `whole`. It follows a clock that is set; right after that, and
 * at the start, its fraction may be too small.
 */
export const makePreciseWall = (
  whole: Reading = () => Date.now(),
  monotonic: Reading = () => performance.now(),
): Reading => {
  let origin = whole() - monotonic();
  return () => {
    const now = monotonic();
    const floor = whole();
    const precise = origin + now;
    if (precise >= floor && precise < floor + 1) return precise;
    origin = floor - now;
    return floor;
  };
};
