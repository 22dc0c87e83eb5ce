/** What a sampler says of the memory that it takes, and how long it keeps the host's thread. */
import { describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../../shared/arrow/index.ts';
import type { FieldJson } from '../../../../shared/domain/function.ts';
import type { Sample, VersionFacts } from '../../../../workers/inference-log/sample.ts';
import { rowHash } from '../../../../workers/inference-log/sampling.ts';
import { type SettledBatch, VersionSampler } from '../../../../workers/inference-log/version-sampler.ts';

const X: FieldJson = { name: 'x', type: 'int64', nullable: true };
const FACTS: VersionFacts = {
  ...{ versionId: 1, functionName: 'model.g', group: 'g', model: 'm', modelVersion: 1, functionVersion: 'v' },
  ...{ retentionMs: 60_000, flushMs: 3_600_000, inputs: [X], output: 'utf8' },
};

/** Where the sampler's rows go, and what it told. */
class Taken {
  readonly samples: Sample[] = [];
  readonly losses: (readonly [number, string])[] = [];
  readonly #copies: Promise<void>[] = [];
  reservedBytes = 0;
  readonly sampler: VersionSampler;

  constructor(rate: number, add = (sample: Sample): void => void this.samples.push(sample)) {
    this.sampler = new VersionSampler(FACTS, rate, {
      reserve: (bytes) => {
        this.reservedBytes += bytes;
        return true;
      },
      release: (bytes) => {
        this.reservedBytes -= bytes;
      },
      copying: (copy) => this.#copies.push(copy),
      add,
      flush: () => undefined,
      lose: (rows, reason) => this.losses.push([rows, reason]),
    });
  }

  async copied(): Promise<void> {
    await Promise.all(this.#copies);
  }
}

const batchOf = (rows: number, changes: Partial<SettledBatch['settlement']> = {}): SettledBatch => ({
  leased: {
    ...{ batchId: 1, versionId: 1, token: 't', attempts: 0, claims: 0, mode: 'fresh', reason: 'size' },
    ...{ leaseUntil: 0, slices: [{ callId: 1, from: 0, count: rows }], calls: [] },
  },
  ...{ rows, parts: [rowsToStream({ x: new Array(rows).fill(1) }, [X])], at: 1000 },
  settlement: {
    outcomes: [{ callId: 1, from: 0, count: rows, state: 'ok', outputRow: 0 }],
    ...{ output: rowsToStream({ x: new Array(rows).fill(1) }, [X]), handlerMs: 1 },
    ...changes,
  },
});

describe('a sampler', () => {
  it('counts the runs and the messages that it keeps', async () => {
    const taken = new Taken(1);
    const outcomes = Array.from({ length: 1000 }, (_, row) => ({
      ...{ callId: 1, from: row, count: 1, state: 'failed' as const },
      error: { code: 'row_refused', message: `${row}`.padEnd(5000, 'm') },
    }));
    const batch = batchOf(1000, { outcomes, output: null });
    taken.sampler.take(batch);
    await taken.copied();
    const [sample] = taken.samples;
    expect(sample!.bytes).toBe(taken.reservedBytes);
    // 48 bytes of numbers a run and 1,000 characters a message, beside the columns.
    expect(sample!.bytes).toBeGreaterThan(1000 * 1048 + batch.parts[0]!.byteLength);
    expect(sample!.bytes).toBeLessThan(1000 * 2300 + batch.parts[0]!.byteLength);
  });

  it('gives its room back where its rows cannot be copied, or not be handed over', async () => {
    const copied = new Taken(1);
    const tooLarge = { buffer: new ArrayBuffer(0), byteLength: 2 ** 53 - 1 } as Uint8Array;
    copied.sampler.take({ ...batchOf(3), parts: [tooLarge] });
    await copied.copied();
    const added = new Taken(1, () => {
      throw new Error('no thread');
    });
    added.sampler.take(batchOf(3));
    await added.copied();
    for (const { reservedBytes, losses } of [copied, added])
      expect([reservedBytes, losses]).toEqual([0, [[3, expect.any(String)]]]);
  });

  it('looks at the rows of a large batch in turns with what else there is to do', async () => {
    const rows = 200_000;
    const taken = new Taken(0.3);
    let turns = 0;
    let isDone = false;
    const count = (): void => {
      turns += 1;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    taken.sampler.take(batchOf(rows));
    expect(taken.samples).toEqual([]);
    await taken.copied();
    isDone = true;
    expect(turns).toBeGreaterThan(5);
    const found = taken.samples[0]!.runs.flatMap(({ row, count }) =>
      Array.from({ length: count }, (_, i) => row + i),
    );
    expect(found).toEqual(
      Array.from({ length: rows }, (_, row) => row).filter((row) => rowHash(1, row) < 0.3 * 2 ** 32),
    );
  });
});
