/** Which files are read for drift figures, and what is taken of them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DRIFT_ROWS_MAX, evenPortions, rangePortions } from '../../../services/inferences/drift-portions.ts';
import { DRIFT_COLUMNS_MAX, DriftSampler } from '../../../services/inferences/drift-sampler.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import { inferenceFileTime } from '../../../shared/domain/inference.ts';
import { parquetType } from '../../../shared/parquet/parquet-type.ts';
import type { Documents } from '../../../shared/store/ports/documents.ts';
import { type InferenceRows, inferenceParquet } from '../../support/inference-files.ts';

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

describe('the files of a range', () => {
  /** One each second, in place of a store that holds them all. */
  const documentsOf = (count: number) => {
    let read = 0;
    const keys = Array.from({ length: count }, (_, at) => `g/${inferenceFileTime(at * 1000)}-u`);
    const list: Documents['list'] = async ({ after = '', limit }) => {
      const begin = keys.findIndex((key) => key > after);
      const page = begin < 0 ? [] : keys.slice(begin, begin + limit);
      read += page.length;
      return page.map((key, i) => {
        const at = (begin + i) * 1000;
        const value = { digest: digest(begin + i), from: at, until: at + 999, rows: 10, bytes: 1000 };
        return { key, revision: 1, value };
      });
    };
    return { documents: { list } as Documents, read: () => read };
  };
  const secondsOf = (portions: readonly { readonly digest: string }[]) =>
    portions.map((portion) => Number(portion.digest.slice('sha256:'.length)));

  it('are all that overlap it', async () => {
    const { documents } = documentsOf(5000);
    const portions = await rangePortions(documents, 'g', { from: 1_000_500, until: 1_010_000 });
    expect(secondsOf(portions)).toEqual([1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009]);
  });

  it('are of all its parts where there are too many to look at', async () => {
    const { documents, read } = documentsOf(200_000);
    const portions = await rangePortions(documents, 'g', { from: 0, until: 200_000_000 });
    expect(portions.length).toBe(1000);
    const parts = new Set(secondsOf(portions).map((second) => Math.floor(second / 10_000)));
    expect(parts.size).toBe(20);
    expect(read()).toBeLessThan(40_000);
  });
});

const field = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });

const written = (rows: InferenceRows): string => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-sampling-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'rows.parquet');
  writeFileSync(file, inferenceParquet(rows));
  return file;
};

const fileOf = (rows: number, columns: number): string => {
  const names = Array.from({ length: columns }, (_, at) => `c${String(at).padStart(3, '0')}`);
  return written({
    ...{ group: 'g', inputs: names.map((name) => field(name, 'float64')), output: 'float64' },
    times: Array.from({ length: rows }, (_, row) => 1000 + row),
    input: Array.from({ length: rows }, (_, row) => Object.fromEntries(names.map((name) => [name, row]))),
    outputs: Array.from({ length: rows }, (_, row) => row),
  });
};

const LISTS = ['list', 'large_list'] as const;
const WIDTHS = ['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64'] as const;
/** Of seven, in milliseconds; times in seconds are written as milliseconds already. */
const TIMES = [
  ['s', 7],
  ['ms', 7],
  ['us', 0.007],
  ['ns', 0.000007],
] as const;
const DURATIONS = [
  ['s', -7000],
  ['ms', -7],
  ['us', -0.007],
  ['ns', -0.000007],
] as const;

/** A value of each type that has figures, and the number that stands for it. */
const VALUES: readonly (readonly [TypeJson, unknown, number])[] = [
  ...WIDTHS.map((type) => [type, 100, 100] as const),
  ...(['float16', 'float32', 'float64'] as const).map((type) => [type, -1.5, -1.5] as const),
  ['uint64', 2n ** 64n - 1n, 2 ** 64],
  ['date32', new Date('1970-01-03'), 2 * 86_400_000],
  ['date64', new Date('1970-01-03'), 2 * 86_400_000],
  [{ timestamp: 'us', tz: 'UTC' }, new Date(1500), 1500],
  ...TIMES.map(([unit, ms]) => [{ time: unit }, 7, ms] as const),
  ...DURATIONS.map(([unit, ms]) => [{ duration: unit }, -7, ms] as const),
  [{ decimal: [10, 2], bits: 128 }, '-12.50', -12.5],
  [{ decimal: [50, 3], bits: 256 }, '0.125', 0.125],
  [{ fixed_size_list: field('item', 'float64'), size: 2 }, [3, 4], 5],
  ...LISTS.map((list) => [{ [list]: field('item', 'int8') } as TypeJson, [2, null, 3, 6], 7] as const),
  [{ list: field('item', 'float32') }, [], 0],
  [{ dictionary: 'int32', index: 'int8', ordered: false }, 9, 9],
];

const CATEGORIES: readonly (readonly [TypeJson, unknown, unknown])[] = [
  ['bool', true, false],
  ['utf8', 'a', ''],
  ['large_utf8', 'a', 'b'],
  [{ dictionary: 'utf8', index: 'int8', ordered: false }, 'a', 'b'],
];

const WITHOUT: readonly (readonly [TypeJson, unknown])[] = [
  ['binary', new Uint8Array(1)],
  [{ fixed_size_binary: 2 }, new Uint8Array(2)],
  [{ list: field('item', 'utf8') }, ['a']],
  [{ list: field('item', { list: field('item', 'int8') }) }, [[1]]],
  [{ map: [{ ...field('key', 'utf8'), nullable: false }, field('value', 'int8')] }, new Map([['a', 1]])],
];

/** Rows whose input has a column for each type, written as a worker writes it. */
const sampledTypes = async (types: readonly TypeJson[], rows: readonly (readonly unknown[])[]) => {
  const inputs = types.map((type, at) => field(`t${at}`, parquetType(type)));
  const file = written({
    ...{ group: 'g', inputs, output: 'float64' },
    times: rows.map(() => 1000),
    input: rows.map((values) => Object.fromEntries(values.map((value, at) => [`t${at}`, value]))),
    outputs: rows.map(() => null),
  });
  const sampler = new DriftSampler({ from: 0, until: 1e12 });
  await sampler.add(file, 1);
  const sides = sampler.sides();
  return types.map((_, at) => sides.get(`input.t${at}`));
};

describe('the values of a column', () => {
  it('are numbers of every type that has an order, and nulls are counted', async () => {
    const types = VALUES.map(([type]) => type);
    const sides = await sampledTypes(types, [VALUES.map(([, value]) => value), VALUES.map(() => null)]);
    const found = sides.map((side) => (side?.kind === 'ordered' ? [...side.sorted, side.nulls] : side));
    expect(found.map((values, at) => [types[at], values])).toEqual(
      VALUES.map(([type, , number]) => [type, [number, 1]]),
    );
  });

  it('are told apart where they are texts or booleans', async () => {
    const types = CATEGORIES.map(([type]) => type);
    const rows = [1, 2, 1].map((at) => CATEGORIES.map((one) => one[at as 1 | 2]));
    for (const side of await sampledTypes(types, rows)) {
      if (side?.kind !== 'category') throw new Error('it is no category');
      expect([...side.counts.values()]).toEqual([2, 1]);
    }
  });

  it('are none of what cannot be compared', async () => {
    const sides = await sampledTypes(
      WITHOUT.map(([type]) => type),
      [WITHOUT.map(([, value]) => value)],
    );
    expect(sides).toEqual(WITHOUT.map(() => undefined));
  });

  it('are those of the type that most rows have, where files differ', async () => {
    const sampler = new DriftSampler({ from: 0, until: 1e12 });
    const texts = { times: [1, 2, 3], input: [{ x: 'a' }, { x: 'b' }, { x: null }], outputs: [1, 2, 3] };
    const numbers = { times: [4, 5], input: [{ x: 1 }, { x: 2 }], outputs: ['a', 'b'] };
    await sampler.add(written({ ...texts, group: 'g', inputs: [field('x', 'utf8')], output: 'int8' }), 1);
    await sampler.add(written({ ...numbers, group: 'g', inputs: [field('x', 'int8')], output: 'utf8' }), 1);
    const kinds = [...sampler.sides()].map(([name, { kind, nulls }]) => [name, kind, nulls]);
    expect(kinds).toEqual([
      ['output', 'ordered', 0],
      ['input.x', 'category', 1],
    ]);
    expect(sampler.rows).toBe(5);
  });
});

describe('a column of times', () => {
  const units = ['ms', 'us', 'ns'] as const;
  const kinds: readonly (readonly [string, readonly TypeJson[], unknown])[] = [
    ['timestamps', units.map((unit) => ({ timestamp: unit, tz: null })), new Date(1500)],
    ['durations', [{ duration: 's' }, { duration: 'ms' }, { duration: 'ns' }], null],
    ['dates', ['date32', 'date64'], new Date('1970-01-03')],
  ];
  const parts: Record<string, number> = { s: 3, ms: 3000, ns: 3e9 };

  it.each(kinds)('is the same in whatever unit a version declares %s', async (_, types, value) => {
    const sampler = new DriftSampler({ from: 0, until: 1e12 });
    for (const type of types) {
      const own = value ?? parts[(type as { duration: string }).duration];
      const inputs = [field('x', parquetType(type))];
      const rows = { times: [1], input: [{ x: own }], outputs: [null] };
      await sampler.add(written({ ...rows, group: 'g', inputs, output: 'int8' }), 1);
    }
    const side = sampler.sides().get('input.x');
    const found = side?.kind === 'ordered' ? [...side.sorted] : [];
    expect(found).toHaveLength(types.length);
    expect(new Set(found).size).toBe(1);
  });
});

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
