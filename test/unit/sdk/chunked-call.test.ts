/** Chunked calls against a target of one process: what is refused, what fails, what is too late. */
import { describe, expect, it } from 'vitest';
import type { CallHandle } from '../../../sdk/call-handle.ts';
import { type ChunkedCallOptions, chunkedCall } from '../../../sdk/chunked-call.ts';
import { SluiceError, TimeoutError } from '../../../sdk/errors.ts';
import { type Batch, type Columns, encodeBatch } from '../../../sdk/input.ts';
import { rowsToStream, streamToColumns } from '../../../shared/arrow/index.ts';

type Target = Parameters<typeof chunkedCall>[0];

const columnsOf = async (batch: Batch): Promise<Columns> =>
  batch.kind === 'columns'
    ? batch.columns
    : streamToColumns((await encodeBatch(batch, async () => null)).body as Uint8Array);

/** Doubles x; refuses nulls, and what is more than 100 in sum, as the server does, and fails the row 7. `isLate`: no call ever ends. */
const target = (sent: Columns[] = [], isLate = false): Target => ({
  submit: async (batch: Batch) => {
    const columns = await columnsOf(batch);
    const x = [...(columns.x as unknown[])];
    if (x.reduce<number>((sum, value) => sum + Number(value), 0) > 100)
      throw new SluiceError('payload_too_large', 'The body is larger than 100 bytes.');
    const bad = x.findIndex((value) => typeof value !== 'number');
    const field = { field: 'x', row: bad };
    if (bad >= 0 && x[bad] === null)
      throw new SluiceError('schema_mismatch', `column "x" is not nullable, but row ${bad} is null`, field);
    if (bad >= 0) throw new SluiceError('invalid_request', `column "x", row ${bad}: is "a"`, field);
    sent.push(columns);
    const seven = x.indexOf(7);
    const errors = new Map(seven < 0 ? [] : [[seven, { code: 'handler_error', message: 'no seven' }]]);
    return {
      callId: 'c1',
      result: async ({ timeoutMs = 0 }) => {
        if (isLate) throw new TimeoutError('c1', timeoutMs);
        return { values: x.map((value) => (value === 7 ? null : Number(value) * 2)), errors };
      },
      cancel: async () => undefined,
      acknowledge: async () => undefined,
    } as unknown as CallHandle;
  },
});

const batchOf = (x: readonly unknown[]): Batch => ({ kind: 'columns', columns: { x }, rows: x.length });

const failure = (x: readonly unknown[], options: ChunkedCallOptions, to = target()): Promise<Error> =>
  chunkedCall(to, batchOf(x), options).then(
    () => expect.fail('it went well'),
    (error: Error) => error,
  );

describe('the error of a chunk', () => {
  const ten = Array.from({ length: 20 }, (_, i) => (i === 7 ? 0 : i === 17 ? 7 : 1));

  it('names the row of the whole call that failed', async () => {
    expect((await failure(ten, { chunkSize: 10 })).message).toBe(
      'Chunk 1 (rows 10 to 19) failed: 1 of 10 rows of call c1 failed; row 17: no seven',
    );
  });

  it('names the row of the whole call that was refused', async () => {
    expect((await failure([1, 1, 1, null], { chunkSize: 2 })).message).toBe(
      'Chunk 1 (rows 2 to 3) failed: column "x" is not nullable, but row 3 is null',
    );
    expect((await failure([1, 1, 1, 'a'], { chunkSize: 2 })).message).toContain('column "x", row 3: is "a"');
  });

  it('does not offer to wait for a call that was cancelled', async () => {
    expect((await failure([1, 1], { numChunks: 1, timeoutMs: 5 }, target([], true))).message).toBe(
      'Chunk 0 (rows 0 to 1) failed: its call c1 was not finished after 5 ms and was cancelled',
    );
  });
});

describe('a row that is refused', () => {
  it('becomes null with its error where that is asked for, and the others go on', async () => {
    const sent: Columns[] = [];
    const rows = [1, null, 7, 'a', null, 2, null, null];
    const { result, errors } = await chunkedCall(target(sent), batchOf(rows), {
      chunkSize: 6,
      concurrentChunks: 1,
      onError: 'null',
    });
    expect(result).toEqual([2, null, null, null, null, 4, null, null]);
    expect([...errors].map(([row, { code, message }]) => [row, code, message])).toEqual([
      [1, 'schema_mismatch', 'column "x" is not nullable, but row 1 is null'],
      [2, 'handler_error', 'no seven'],
      [3, 'invalid_request', 'column "x", row 3: is "a"'],
      [4, 'schema_mismatch', 'column "x" is not nullable, but row 4 is null'],
      [6, 'schema_mismatch', 'column "x" is not nullable, but row 6 is null'],
      [7, 'schema_mismatch', 'column "x" is not nullable, but row 7 is null'],
    ]);
    expect(sent).toEqual([{ x: [1, 7, 2] }, { x: [] }]);
  });

  it('is found by its place in an Arrow stream, too', async () => {
    const x = { name: 'x', type: { dictionary: 'int32', index: 'int8', ordered: false }, nullable: true };
    const bytes = rowsToStream({ x: [1, null, 7, null, 2, null, 3] }, [x]);
    const sent: Columns[] = [];
    const { result, errors } = await chunkedCall(
      target(sent),
      { kind: 'bytes', bytes, rows: null },
      { chunkSize: 5, concurrentChunks: 1, onError: 'null' },
    );
    expect(result).toEqual([2, null, null, null, 4, null, 6]);
    expect([...errors.keys()]).toEqual([1, 2, 3, 5]);
    expect(sent.map((columns) => [...(columns.x as number[])])).toEqual([[1, 7, 2], [3]]);
  });
});

describe('a chunk that is too large', () => {
  const large = [1, 2, null, 101, 5, 60, 60, 7];

  it('is cut until the rows that are too large stand alone, which become null where that is asked for', async () => {
    const arrow = rowsToStream({ x: large }, [{ name: 'x', type: 'int32', nullable: true }]);
    for (const batch of [batchOf(large), { kind: 'bytes', bytes: arrow, rows: null } as const]) {
      const { result, errors } = await chunkedCall(target(), batch, { numChunks: 1, onError: 'null' });
      expect(result).toEqual([2, 4, null, null, 10, 120, 120, null]);
      expect([...errors].map(([row, { code, message }]) => [row, code, message])).toEqual([
        [2, 'schema_mismatch', 'column "x" is not nullable, but row 2 is null'],
        [3, 'payload_too_large', 'The body is larger than 100 bytes.'],
        [7, 'handler_error', 'no seven'],
      ]);
    }
  });

  it('is named with the way on', async () => {
    expect((await failure([1, 60, 60], { chunkSize: 3 })).message).toBe(
      'Chunk 0 (rows 0 to 2) failed: The body is larger than 100 bytes; lower chunkSize or raise numChunks, ' +
        "or give onError: 'null' to go on without a row that is too large",
    );
    expect((await failure([1, 101], { chunkSize: 1, concurrentChunks: 1 })).message).toBe(
      'Chunk 1 (rows 1 to 1) failed: The body is larger than 100 bytes; ' +
        "give onError: 'null' to go on without a row that is too large",
    );
  });
});

describe('options that are wrong', () => {
  it('are named', async () => {
    const cases: [unknown, string][] = [
      [undefined, 'Neither chunkSize nor numChunks is given; give exactly one of them.'],
      [{ chunkSize: 1, onError: 'ignore' }, 'onError is "ignore"; give "throw" or "null".'],
      [{ chunkSize: 1, timeoutMs: -5 }, 'timeoutMs is -5; give milliseconds of at least 0.'],
      [
        { chunkSize: 1, timeoutms: 1 },
        'There is no option timeoutms; the options are chunkSize, numChunks, ',
      ],
      [{ chunkSize: 1, concurrentChunks: 0 }, 'concurrentChunks is 0; give a whole number of at least 1.'],
    ];
    for (const [options, message] of cases)
      expect((await failure([1], options as ChunkedCallOptions)).message).toContain(message);
  });
});
