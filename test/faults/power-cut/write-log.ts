/** What the shim logged: see its header for the format. */
import { readFileSync } from 'node:fs';

export type LogRecord = {
  readonly kind: 'write' | 'truncate' | 'sync' | 'create' | 'unlink' | 'rename' | 'fact';
  readonly path: string;
  readonly offset: number;
  readonly data: Buffer;
};

const KINDS = ['', 'write', 'truncate', 'sync', 'create', 'unlink', 'rename', 'fact'] as const;
const HEADER_BYTES = 17;

/** A record that a kill cut off is left out: what it tells had no effect that anyone saw. */
export const readLog = (path: string): LogRecord[] => {
  const log = readFileSync(path);
  const records: LogRecord[] = [];
  for (let at = 0; at + HEADER_BYTES <= log.length; ) {
    const kind = KINDS[log[at]!];
    if (!kind) throw new Error(`the log has no record at byte ${at}`);
    const pathEnd = at + HEADER_BYTES + log.readUInt32LE(at + 1);
    const end = pathEnd + log.readUInt32LE(at + 13);
    if (end > log.length) break;
    records.push({
      kind,
      path: log.toString('utf8', at + HEADER_BYTES, pathEnd),
      offset: Number(log.readBigUInt64LE(at + 5)),
      data: log.subarray(pathEnd, end),
    });
    at = end;
  }
  return records;
};
