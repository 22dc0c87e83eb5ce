/** How scripts are told of what batches hold and of what became of it; see scripts/parts/batches.lua and ending.lua. */
import type { Outcome, RowError, Slice } from '../../domain/call.ts';
import type { Continuation } from '../ports/queue.ts';
import { callIdOf, functionOfId, serialOfId } from './layout.ts';
import { MODES, PART, SLICE_WIDTH } from './packing.ts';

/** Numbers of slices; calls of another function get `foreign`. */
export const packSlices = (fn: number, slices: readonly Slice[], foreign: number): number[] => {
  const numbers: number[] = [];
  for (const { callId, from, count } of slices)
    numbers.push(functionOfId(callId) === fn ? serialOfId(callId) : foreign, from, count);
  return numbers;
};

export const unpackSlices = (fn: number, numbers: readonly number[]): Slice[] => {
  const slices: Slice[] = [];
  for (let at = 0; at < numbers.length; at += SLICE_WIDTH)
    slices.push({ callId: callIdOf(fn, numbers[at]!), from: numbers[at + 1]!, count: numbers[at + 2]! });
  return slices;
};

type PackedOutcomes = { readonly outcomes: number[]; readonly errors: string };

/** Outcomes as numbers (scripts/parts/ending.lua) and their distinct errors; a failed one's place is its error's index. */
export const packOutcomes = (fn: number, list: readonly Outcome[]): PackedOutcomes => {
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
    const n = functionOfId(one.callId) === fn ? serialOfId(one.callId) : -1;
    outcomes.push(PART[one.state], n, one.from, one.count, at);
  }
  return { outcomes, errors: places.size === 0 ? '' : `[${[...places.keys()].join(',')}]` };
};

export type PackedPart = [
  slices: number[],
  attempts: number,
  claims: number,
  mode: number,
  notBefore: number,
];

export const packParts = (fn: number, parts: readonly Continuation[]): PackedPart[] =>
  parts.map(({ slices, attempts, claims, mode, notBefore }) => [
    packSlices(fn, slices, -1),
    attempts,
    claims,
    MODES.indexOf(mode),
    notBefore,
  ]);
