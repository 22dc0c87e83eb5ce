/** What is said of a run that did not come to its end: why, what the user can do about it, and what is kept. */
import { CommandError, EXIT_INTERRUPTED, explain, UsageError } from '../failure.ts';
import { ChunkTooLargeError, RowsFailedError, VersionChangedError } from './chunk-calls.ts';

export const INTERRUPTED = Symbol('interrupted');

/** Finished rows are kept in `parts`, and the same command goes on behind them. Without any, there is no such folder. */
const wayOn = (error: unknown, rowsDone: number, parts: string): string => {
  const kept = `${rowsDone.toLocaleString('en')} finished rows are kept in ${parts}`;
  if (error === INTERRUPTED)
    return rowsDone === 0
      ? 'Interrupted before any row was finished. Run the same command again to start anew.'
      : `Interrupted; ${kept}. Run the same command again to go on.`;
  const onward = rowsDone === 0 ? '' : `; ${kept}`;
  if (error instanceof RowsFailedError)
    return `${explain(error)} Correct the row and run the same command again, or go on without such rows with --on-error null${onward}.`;
  return rowsDone === 0 ? explain(error) : `${explain(error)} The same command goes on from there: ${kept}.`;
};

export const runEnd = (error: unknown, rowsDone: number, parts: string): unknown => {
  // What is finished is of chunks of that size, and of that version.
  const isOther = error instanceof VersionChangedError || error instanceof ChunkTooLargeError;
  if (error instanceof UsageError || isOther) return error;
  return new CommandError(
    wayOn(error, rowsDone, parts),
    error === INTERRUPTED ? EXIT_INTERRUPTED : undefined,
  );
};
