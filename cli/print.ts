/** Tables and JSON on standard output. */
import type { LogLineJson } from '../sdk/index.ts';

export const printJson = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value, jsonValue, 2)}\n`);
};

/** Since Node 21; its type is not in the library version that is compiled against. */
const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };

/** Typed arrays as arrays, integers beyond 2^53 with all digits, as the server writes them, bytes as base64. */
export const jsonValue = (_key: string, value: unknown): unknown => {
  if (typeof value === 'bigint') return rawJSON(value.toString());
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
  if (value instanceof Map) return Object.fromEntries(value);
  return value;
};

/** Columns as wide as their widest cell; the last one is not padded. */
export const printTable = (head: readonly string[], rows: readonly (readonly string[])[]): void => {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd(widths[i]!))).join('  ');
  process.stdout.write(`${[head, ...rows].map((row) => line(row).trimEnd()).join('\n')}\n`);
};

export const printLogs = (lines: readonly LogLineJson[]): void => {
  if (lines.length === 0) process.stderr.write('no lines yet\n');
  for (const { at, replica, stream, text } of lines)
    process.stdout.write(`${at} ${replica} ${stream}  ${text}\n`);
};

/** '3 min ago' */
export const ago = (time: string | null, now: number = Date.now()): string => {
  if (time === null) return '-';
  return `${span(now - Date.parse(time))} ago`;
};

/** '850 ms', '12 s', '3 min', '5 h', '2 d' */
export const span = (ms: number): string => {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 100_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 6_000_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} d`;
};

/** '1 call', '2 calls' */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

const ROLLED_BACK = /^the update to version \S+ was rolled back/;

/** The last line, where a traceback has its error. */
export const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';

/** First lines that tell less than the last: a traceback's, and that of a command that failed, such as pip. */
const IS_HEADING = /^Traceback|ended with code \d+$/;

/** A reason in one line: what happened, and of a traceback or a command's output its error. */
export const reasonLine = (reason: string): string => {
  const [first = ''] = reason.trim().split('\n');
  const dropped = ROLLED_BACK.exec(first);
  if (dropped) return dropped[0];
  return IS_HEADING.test(first) ? lastLine(reason) : first;
};
