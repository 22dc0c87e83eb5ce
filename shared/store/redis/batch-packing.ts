/** How scripts are told of what batches hold and of what became of it; see scripts/parts/batches.lua and ending.lua. */
import type { Outcome, Slice } from '../../domain/call.ts';
import { packOutcomes } from '../packed-outcomes.ts';
import type { Continuation } from '../ports/queue.ts';
import { callIdOf, functionOfId, serialOfId } from './layout.ts';
import { MODES, SLICE_WIDTH } from './packing.ts';

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

/** For scripts/parts/ending.lua; errors are a JSON list, or '' where there are none. */
export const packSlotOutcomes = (fn: number, list: readonly Outcome[]): PackedOutcomes => {
  const numberOf = (callId: number): number => (functionOfId(callId) === fn ? serialOfId(callId) : -1);
  const { outcomes, errors } = packOutcomes(list, numberOf);
  return { outcomes, errors: errors.length === 0 ? '' : `[${errors.join(',')}]` };
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
