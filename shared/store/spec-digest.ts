/** What names a version: the same spec has the same digest, whatever wrote it. */
import { createHash } from 'node:crypto';
import type { FunctionSpec } from '../domain/function.ts';

/** JSON with sorted keys. */
const canonical = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(',')}}`;
};

/** The first 12 hex digits of the SHA-256 of the canonical spec. */
export const digestOf = (spec: FunctionSpec): string =>
  createHash('sha256').update(canonical(spec)).digest('hex').slice(0, 12);
