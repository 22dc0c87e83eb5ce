/** Times and spans of the command line; what is wrong is a usage error that names the option. */
import { UsageError } from '../failure.ts';

const SPAN = /^(\d+(?:\.\d+)?)\s?(ms|s|min|h|d)$/;
const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const TIME = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$/;

/** '30min' → 1,800,000; null: it is none */
const spanOf = (text: string): number | null => {
  const [, number, unit] = SPAN.exec(text.trim()) ?? [];
  return number === undefined ? null : Math.round(Number(number) * UNITS_MS[unit!]!);
};

/** '90s', '30min', '12h', '7d' in milliseconds */
export const spanMs = (option: string, text: string): number => {
  const ms = spanOf(text);
  if (ms === null) throw new UsageError(`${option} is ${text}; give a span such as 90s, 30min, 12h or 7d.`);
  return ms;
};

/** A time in UTC where it names no zone, or a span ago. */
export const timeText = (option: string, text: string, now: number = Date.now()): string => {
  const agoMs = spanOf(text);
  if (agoMs !== null) return new Date(now - agoMs).toISOString();
  const match = TIME.exec(text.trim());
  const hasClock = text.trim().length > 10;
  const at = match
    ? Date.parse(`${text.trim().replace(' ', 'T')}${hasClock && !match[1] ? 'Z' : ''}`)
    : Number.NaN;
  if (Number.isNaN(at))
    throw new UsageError(
      `${option} is ${text}; give a time such as 2026-11-01 or 2026-11-01T12:00:00Z, or a span ago such as 12h.`,
    );
  return new Date(at).toISOString();
};
