/**
 * The lines of a batch in runs that become calls. Where a run ends is said by the file alone, so that whoever goes on after a
 * crash makes the same runs, whose calls have the same idempotency keys.
 */
import { createHash } from 'node:crypto';
import type { Endpoint } from '../../shared/wire/openai/task-request.ts';
import { type BatchLine, parseBatchLine } from './batch-line.ts';
import type { LineFault } from './batch-records.ts';
import { linesOf } from './lines.ts';

/** Rows of one call: as many as the usual largest batch, few enough that their answers fit in memory. */
const ROWS_MAX = 1000;
const BYTES_MAX = 2 ** 20;

export type Cursor = { readonly byte: number; readonly line: number };

export type Chunk = {
  readonly firstLine: number;
  readonly lines: readonly (BatchLine | LineFault)[];
  /** Of the bytes of its lines. */
  readonly digest: string;
  /** Where the next one begins. */
  readonly end: Cursor;
};

class Gathering {
  readonly lines: (BatchLine | LineFault)[] = [];
  readonly #hash = createHash('sha256');
  #rows = 0;
  #bytes = 0;

  hasRoom(rows: number, bytes: number): boolean {
    return this.lines.length === 0 || (this.#rows + rows <= ROWS_MAX && this.#bytes + bytes <= BYTES_MAX);
  }

  add(line: BatchLine | LineFault, rows: number, bytes: Buffer): void {
    this.lines.push(line);
    this.#hash.update(bytes).update('\n');
    this.#rows += rows;
    this.#bytes += bytes.length;
  }

  chunk(firstLine: number, end: Cursor): Chunk {
    return { firstLine, lines: this.lines, digest: this.#hash.digest('hex'), end };
  }
}

const NO_BYTES = Buffer.alloc(0);

export async function* chunksOf(
  bytes: AsyncIterable<Uint8Array>,
  from: Cursor,
  endpoint: Endpoint,
): AsyncGenerator<Chunk> {
  let gathering = new Gathering();
  let first = from.line;
  let end = from;
  for await (const line of linesOf(bytes, from)) {
    const parsed = parseBatchLine(line, endpoint);
    const rows = 'rows' in parsed ? parsed.rows : 1;
    const raw = line.bytes ?? NO_BYTES;
    if (!gathering.hasRoom(rows, raw.length)) {
      yield gathering.chunk(first, end);
      [gathering, first] = [new Gathering(), line.number];
    } else if (gathering.lines.length === 0) first = line.number;
    gathering.add(parsed, rows, raw);
    end = { byte: line.endByte, line: line.number + 1 };
  }
  if (gathering.lines.length > 0) yield gathering.chunk(first, end);
}
