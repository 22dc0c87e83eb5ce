/** Which files are read for drift figures, and what is taken of them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DRIFT_ROWS_MAX, evenPortions } from '../../../services/inferences/drift-portions.ts';
import { DRIFT_COLUMNS_MAX, DriftSampler } from '../../../services/inferences/drift-sampler.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import { inferenceParquet } from '../../support/inference-files.ts';

const digest = (at: number) => `sha256:${at}` as const;
const fileSizes = fc.array(
  fc.record({
    rows: fc.integer({ min: 1, max: 50_000 }),
    bytes: fc.integer({ min: 100, max: 16 * 2 ** 20 }),
  }),
  { maxLength: 300 },
);

describe('the portions of files', () => {
  it('are at most the rows that are taken, and each file is named once, in order', () => {
    fc.assert(
      fc.property(fileSizes, (sizes) => {
        const files = sizes.map((size, at) => ({ ...size, digest: digest(at) }));
        const portions = evenPortions(files);
        const rowsOf = new Map<string, number>(files.map((file) => [file.digest, file.rows]));
        const taken = portions.reduce((sum, { digest, rate }) => sum + rate * rowsOf.get(digest)!, 0);
        expect(taken).toBeLessThanOrEqual(DRIFT_ROWS_MAX + 1e-6);
        expect(portions.every(({ rate }) => rate > 0 && rate <= 1)).toBe(true);
        const named = portions.map((portion) =>
          files.findIndex((file) => file.digest === (portion.digest as string)),
        );
        expect(named).toEqual([...new Set(named)].sort((a, b) => a - b));
        expect(portions.length > 0).toBe(files.length > 0);
      }),
    );
  });

  it('are all rows where there are few', () => {
    const files = Array.from({ length: 900 }, (_, at) => ({ digest: digest(at), rows: 50, bytes: 1000 }));
    expect(evenPortions(files)).toEqual(files.map((file) => ({ digest: file.digest, rate: 1 })));
  });

  it('are of evenly spaced files where there are too many of them', () => {
    const files = Array.from({ length: 40_000 }, (_, at) => ({ digest: digest(at), rows: 10, bytes: 1000 }));
    const portions = evenPortions(files);
    expect(portions.length).toBe(1000);
    expect(new Set(portions.map(({ rate }) => rate))).toEqual(new Set([1]));
    expect(portions[0]!.digest).toBe(digest(20));
    expect(portions[999]!.digest).toBe(digest(39_980));
  });

  it('are of few files where those are large, more of the larger ones', () => {
    const bytes = 16 * 2 ** 20;
    const files = Array.from({ length: 160 }, (_, at) => ({
      ...{ digest: digest(at), bytes },
      rows: at < 80 ? 50_000 : 10_000,
    }));
    const portions = evenPortions(files);
    expect(portions.length).toBe(16);
    const large = portions.filter((portion) =>
      files.slice(0, 80).some((file) => file.digest === portion.digest),
    );
    expect(large.length).toBe(13);
  });
});

const field = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });

const fileOf = (rows: number, columns: number): string => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-sampling-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const names = Array.from({ length: columns }, (_, at) => `c${String(at).padStart(3, '0')}`);
  const file = path.join(directory, 'rows.parquet');
  const bytes = inferenceParquet({
    ...{ group: 'g', inputs: names.map((name) => field(name, 'float64')), output: 'float64' },
    times: Array.from({ length: rows }, (_, row) => 1000 + row),
    input: Array.from({ length: rows }, (_, row) => Object.fromEntries(names.map((name) => [name, row]))),
    outputs: Array.from({ length: rows }, (_, row) => row),
  });
  writeFileSync(file, bytes);
  return file;
};

describe('the rows of a file', () => {
  it('are taken evenly, and small files add up', async () => {
    const file = fileOf(5000, 1);
    const sampler = new DriftSampler({ from: 1000, until: 6000 });
    await sampler.add(file, 0.01);
    expect(sampler.rows).toBe(50);
    const side = sampler.sides().get('input.c000')!;
    const values = side.kind === 'ordered' ? [...side.sorted] : [];
    expect(new Set(values.slice(1).map((value, at) => value - values[at]!))).toEqual(new Set([100]));
    const small = new DriftSampler({ from: 1000, until: 1001 });
    for (let times = 0; times < 10; times += 1) await small.add(file, 0.3);
    expect(small.rows).toBe(3);
  });

  it('have as many columns as there are metrics, outputs among them, and fewer rows then', async () => {
    const sampler = new DriftSampler({ from: 0, until: 1e12 });
    await sampler.add(fileOf(1000, 300), 1);
    expect(sampler.sides().size).toBe(DRIFT_COLUMNS_MAX);
    expect([...sampler.sides().keys()]).toContain('output');
    // 200 columns of 50,000 rows are 2.4 times as many values as are held.
    expect(sampler.rows).toBe(419);
  });

  it('are none of a file that is no Parquet', async () => {
    const file = fileOf(10, 1);
    writeFileSync(file, 'PAR1 but nothing else PAR1');
    const sampler = new DriftSampler({ from: 0, until: 1e12 });
    await expect(sampler.add(file, 1)).rejects.toThrow(/file size of 26/);
    expect(sampler.rows).toBe(0);
  });
});
