/** Work at the end of this turn of the event loop, so that what is asked for within the turn is done together. */

/** Asks for `work`; it runs once, however often it is asked for until then. */
export const atTurnEnd = (work: () => void): (() => void) => {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    setImmediate(() => {
      isAsked = false;
      work();
    });
  };
};
