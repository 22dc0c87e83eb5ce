/** ISO 8601 texts and epoch integers, exact to the nanosecond. */
import type { TimeUnit } from '../domain/function.ts';

/** Fraction digits of each unit. */
const DIGITS: Readonly<Record<TimeUnit, number>> = { s: 0, ms: 3, us: 6, ns: 9 };
export const perSecond = (unit: TimeUnit): bigint => 10n ** BigInt(DIGITS[unit]);
export const DAY_MS = 86_400_000;

/** What a JavaScript Date can show: ±100,000,000 days. */
const DATE_MS_MAX = 8.64e15;

const TIMESTAMP =
  /^([+-]\d{6}|\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?)?$/;
const TIME = /^(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?$/;

/** Epoch value in `unit`; null when the text is no ISO 8601 date or date-time, or finer than the unit. */
export function parseTimestamp(text: string, unit: TimeUnit): bigint | null {
  const match = TIMESTAMP.exec(text);
  if (match === null) return null;
  const [, year, month, day, hour = '00', minute = '00', second = '00', fraction = '', zone = 'Z'] = match;
  const offset = zone.length === 5 ? `${zone.slice(0, 3)}:${zone.slice(3)}` : zone;
  const ms = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}${offset}`);
  if (Number.isNaN(ms) || !dayExists(Number(year), Number(month), Number(day))) return null;
  const part = fractionIn(fraction, unit);
  return part === null ? null : BigInt(ms / 1000) * perSecond(unit) + part;
}

/** Date.parse takes 30 February for 1 March. */
const dayExists = (year: number, month: number, day: number): boolean =>
  new Date(Date.UTC(2000 + (year % 400), month - 1, day)).getUTCDate() === day;

function fractionIn(fraction: string, unit: TimeUnit): bigint | null {
  const digits = DIGITS[unit];
  if (/[1-9]/.test(fraction.slice(digits))) return null;
  return BigInt(fraction.slice(0, digits).padEnd(digits, '0') || '0');
}

/** Time of day in `unit` since midnight. */
export function parseTime(text: string, unit: TimeUnit): bigint | null {
  const match = TIME.exec(text);
  if (match === null) return null;
  const [, hour, minute, second = '0', fraction = ''] = match;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return null;
  const part = fractionIn(fraction, unit);
  const seconds = Number(hour) * 3600 + Number(minute) * 60 + Number(second);
  return part === null ? null : BigInt(seconds) * perSecond(unit) + part;
}

/** ISO 8601 with exactly the unit's digits; beyond the years that Date knows, the integer as text. */
export function timestampText(value: bigint, unit: TimeUnit, tz: string | null): string {
  const per = perSecond(unit);
  const part = ((value % per) + per) % per;
  const seconds = Number((value - part) / per);
  if (Math.abs(seconds) > DATE_MS_MAX / 1000) return String(value);
  const base = new Date(seconds * 1000).toISOString().slice(0, -5);
  return `${base}${fractionText(part, unit)}${tz === null ? '' : 'Z'}`;
}

const fractionText = (part: bigint, unit: TimeUnit): string =>
  unit === 's' ? '' : `.${String(part).padStart(DIGITS[unit], '0')}`;

/** YYYY-MM-DD; beyond the years that Date knows, the number of days as text. */
export function dateText(days: number): string {
  if (Math.abs(days * DAY_MS) > DATE_MS_MAX) return String(days);
  const text = new Date(days * DAY_MS).toISOString();
  return text.slice(0, text.indexOf('T'));
}

export function timeText(value: bigint, unit: TimeUnit): string {
  const per = perSecond(unit);
  const seconds = Number(value / per);
  if (value < 0n || seconds >= 86_400) return String(value);
  const two = (n: number): string => String(n).padStart(2, '0');
  const clock = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return clock + fractionText(value % per, unit);
}

/** Decimal digits with the point `scale` digits from the right. */
export function decimalText(value: bigint, scale: number): string {
  if (scale <= 0) return String(value * 10n ** BigInt(-scale));
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0');
  return `${value < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;

/** The unscaled integer; null when the text is no decimal or does not fit precision and scale without loss. */
export function parseDecimal(text: string, precision: number, scale: number): bigint | null {
  const match = DECIMAL.exec(text);
  if (match === null || text.length > 200) return null;
  const [, sign, whole = '', fraction = '', exponent = '0'] = match;
  if (whole + fraction === '') return null;
  const shift = scale - fraction.length + Number(exponent);
  const digits = BigInt(whole + fraction);
  const divisor = shift < 0 ? 10n ** BigInt(-shift) : 1n;
  if (digits % divisor !== 0n) return null;
  const value = shift < 0 ? digits / divisor : digits * 10n ** BigInt(shift);
  if (value >= 10n ** BigInt(precision)) return null;
  return sign === '-' ? -value : value;
}
