/** Outcomes as numbers, in the words that are stored (stored-words.ts), and their errors. */
import type { Outcome, RowError } from '../domain/call.ts';
import { PART } from './stored-words.ts';

/**
 * State, call, first row, rows and place of each: the output's row of an ok one, the index in `errors` of a failed one.
 * `errors` are JSON texts, each once.
 */
export const packOutcomes = (
  list: readonly Outcome[],
  numberOf: (callId: number) => number,
): { readonly outcomes: number[]; readonly errors: string[] } => {
  const places = new Map<string, number>();
  const seen = new Map<RowError, number>();
  const place = (error: RowError): number => {
    let index = seen.get(error);
    if (index !== undefined) return index;
    const text = JSON.stringify(error);
    index = places.get(text) ?? places.size;
    places.set(text, index);
    seen.set(error, index);
    return index;
  };
  const outcomes: number[] = [];
  for (const one of list) {
    const at = one.state === 'ok' ? one.outputRow : one.state === 'failed' ? place(one.error) : 0;
    outcomes.push(PART[one.state], numberOf(one.callId), one.from, one.count, at);
  }
  return { outcomes, errors: [...places.keys()] };
};
