import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packed } from '../../../cli/run/row-streams.ts';
import { openStream, readStream, rowsToStream, streamToColumns } from '../../../shared/arrow/index.ts';

const FIELDS = [{ name: 'n', type: 'int32', nullable: true }] as const;

async function* streamsOf(sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let next = 0;
  for (const size of sizes) yield rowsToStream({ n: Array.from({ length: size }, () => next++) }, FIELDS);
}

const valuesOf = (bytes: Uint8Array): number[] => [...(streamToColumns(bytes).n as Int32Array)];

describe('packing', () => {
  it('keeps every row in order in valid streams that are never too large', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(50), { maxLength: 20 }),
        fc.integer({ min: 1, max: 40 }),
        async (sizes, rowsMax) => {
          const chunks: Uint8Array[] = [];
          for await (const chunk of packed(streamsOf(sizes), rowsMax)) chunks.push(chunk);
          const total = sizes.reduce((sum, size) => sum + size, 0);
          expect(chunks.flatMap((chunk) => valuesOf(chunk))).toEqual(
            Array.from({ length: total }, (_, i) => i),
          );
          const rows = chunks.map((chunk) => readStream(chunk).rows);
          expect(Math.max(0, ...rows)).toBeLessThanOrEqual(rowsMax);
        },
      ),
    );
  });

  it('joins small streams into full chunks', async () => {
    const rows: number[] = [];
    for await (const chunk of packed(streamsOf(Array(10).fill(3)), 10)) rows.push(openStream(chunk).rows);
    expect(rows).toEqual([9, 9, 9, 3]);
  });

  it('keeps the schema of an input without rows', async () => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of packed(streamsOf([0]), 10)) chunks.push(chunk);
    expect(chunks.map((chunk) => openStream(chunk).fields.map(({ name }) => name))).toEqual([['n']]);
  });
});
