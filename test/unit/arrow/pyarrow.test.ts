/** pyarrow writes the inputs and reads what was made of them, over all types, in one process each way. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ArrowStream,
  buildInput,
  checkOutput,
  jsonToPayload,
  type Output,
  readStream,
  resultArrow,
  resultJson,
  rowsToStream,
  sliceStream,
  streamToColumns,
} from '../../../shared/arrow/index.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { mutated } from './mutations.ts';

const ROOT = join(import.meta.dirname, '../../..');
const PYTHON = join(ROOT, '.venv/bin/python');
const SCRIPT = join(import.meta.dirname, 'pyarrow_cases.py');

/** A second's worth; 500,000 were tried when the verifier was written. */
const MUTATIONS = 6000;

type Part = { from: number; count: number; error?: string };
type Check = { case: string; file: string; parts: Part[]; loose?: boolean };

let directory = '';
let cases: Record<string, number> = {};
const checks: Check[] = [];

const python = (verb: string): string =>
  execFileSync(PYTHON, [SCRIPT, verb, directory], { encoding: 'utf8', maxBuffer: 1 << 26 });

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-arrow-'));
  python('write');
  cases = JSON.parse(readFileSync(join(directory, 'cases.json'), 'utf8'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const load = (name: string): Uint8Array => readFileSync(join(directory, `${name}.arrow`));

function made(check: Omit<Check, 'file'>, how: string, bytes: Uint8Array): void {
  const file = `made-${checks.length}-${how}-${check.case}.arrow`;
  writeFileSync(join(directory, file), bytes);
  checks.push({ ...check, file });
}

const outputOf = (stream: ArrowStream): Output => ({ type: stream.fields[0]!.type, nullable: true });

const isAccepted = (bytes: Uint8Array): boolean => {
  try {
    readStream(bytes);
    return true;
  } catch (error) {
    if (error instanceof SluiceError) return false;
    throw error;
  }
};

type Accepted = { readonly name: string; readonly seed: number; readonly bytes: Uint8Array };

function refusedByPyarrow(accepted: readonly Accepted[]): string[] {
  const lengths = accepted.map(({ bytes }) => new Uint8Array(Uint32Array.of(bytes.length).buffer));
  writeFileSync(
    join(directory, 'accepted.bin'),
    Buffer.concat(accepted.flatMap(({ bytes }, i) => [lengths[i]!, bytes])),
  );
  const refused = python('accept').split('\n').slice(0, -1);
  return refused.map((line) => {
    const { name, seed } = accepted[Number.parseInt(line, 10)]!;
    return `${name}, seed ${seed}: ${line}`;
  });
}

/** Odd and even offsets, within and across batches of 11 rows, all, none, the last row. */
const ranges = (rows: number): [number, number][] => [
  [0, rows],
  [0, 0],
  [1, 7],
  [3, 13],
  [8, 8],
  [9, rows - 9],
  [rows - 1, 1],
];

function slices(name: string, rows: number): void {
  const stream = readStream(load(name));
  expect(stream.rows, name).toBe(rows);
  for (const [from, count] of ranges(rows)) {
    if (from + count > rows) continue;
    const bytes = sliceStream(stream, from, count);
    expect(readStream(bytes).rows).toBe(count);
    made({ case: name, parts: [{ from, count }] }, `slice-${from}-${count}`, bytes);
    const deep = sliceStream(readStream(bytes), Math.min(1, count), Math.max(0, count - 2));
    const part = { from: from + Math.min(1, count), count: Math.max(0, count - 2) };
    made({ case: name, parts: [part] }, `slice-of-slice-${from}-${count}`, deep);
  }
}

function results(name: string, rows: number): void {
  const bytes = load(name);
  const output = outputOf(checkOutput(bytes, outputOf(readStream(bytes)), rows));
  const ok = (outputRow: number, count: number) => ({
    state: 'ok' as const,
    from: 0,
    count,
    output: { batchId: 1, bytes },
    outputRow,
  });
  const failed = {
    state: 'failed' as const,
    from: 0,
    count: 3,
    error: { code: 'handler_error', message: 'no' },
  };
  const mixed = [failed, ok(0, rows), ok(2, 5), { state: 'expired' as const, from: 0, count: 1 }, ok(7, 3)];
  const parts = [
    { from: 0, count: 3, error: 'handler_error' },
    { from: 0, count: rows },
    { from: 2, count: 5 },
    { from: 0, count: 1, error: 'row_expired' },
    { from: 7, count: 3 },
  ];
  made({ case: name, parts }, 'mixed', Buffer.concat([...resultArrow(mixed, output)]));
  made(
    { case: name, parts: parts.slice(1, 3) },
    'plain',
    Buffer.concat([...resultArrow(mixed.slice(1, 3), output)]),
  );
  const pages = [
    ...resultArrow(mixed.slice(0, 2), output, { errors: true, end: false }),
    ...resultArrow(mixed.slice(2), output, { errors: true, start: false }),
  ];
  made({ case: name, parts }, 'pages', Buffer.concat(pages));
}

/** Arrow → JSON result → JSON call → Arrow. */
function throughJson(name: string, rows: number): void {
  const bytes = load(name);
  const stream = readStream(bytes);
  const part = { state: 'ok' as const, from: 0, count: rows, output: { batchId: 1, bytes }, outputRow: 0 };
  const { values, errors } = resultJson([part], outputOf(stream));
  expect(errors).toEqual([]);
  const inputs = stream.fields.map((field) => ({ ...field, nullable: true }));
  const { payload, rows: count } = jsonToPayload({ columns: { result: JSON.parse(`[${values}]`) } }, inputs);
  expect(count, name).toBe(rows);
  const [whole] = buildInput([{ payload, from: 0, count: rows }], inputs);
  made({ case: name, parts: [{ from: 0, count: rows }] }, 'json', whole!.bytes);
  const [two] = buildInput(
    [
      { payload, from: 5, count: 9 },
      { payload, from: 0, count: 2 },
    ],
    inputs,
  );
  const parts = [
    { from: 5, count: 9 },
    { from: 0, count: 2 },
  ];
  made({ case: name, parts }, 'json-parts', two!.bytes);
}

/** Dates carry milliseconds, so that finer units do not survive plain values. */
const FINE = /timestamp_(us|ns)/;
/** JSON numbers carry 53 bits: the text is exact, JSON.parse is not. */
const WIDE = /int64(\.|$)/;

function throughColumns(name: string, rows: number): void {
  const stream = readStream(load(name));
  const fields = stream.fields.map((field) => ({ ...field, nullable: true }));
  const bytes = rowsToStream(streamToColumns(load(name)), fields);
  made({ case: name, parts: [{ from: 0, count: rows }] }, 'columns', bytes);
}

describe('with pyarrow on both sides', () => {
  test('slices, results, JSON and plain values give pyarrow the same rows', () => {
    for (const [name, rows] of Object.entries(cases)) {
      slices(name, rows);
      results(name, rows);
      if (!WIDE.test(name)) throughJson(name, rows);
      if (!FINE.test(name)) throughColumns(name, rows);
    }
    expect(checks.length).toBeGreaterThan(2000);
    writeFileSync(join(directory, 'checks.json'), JSON.stringify(checks));
    expect(python('check')).toBe('');
  });

  test('mutations that are accepted are read by pyarrow as well', () => {
    const names = Object.keys(cases).filter((name) => cases[name]! > 0);
    const accepted: Accepted[] = [];
    for (let seed = 1; seed <= MUTATIONS; seed++) {
      const name = names[seed % names.length]!;
      const bytes = mutated(load(name), seed);
      if (isAccepted(bytes)) accepted.push({ name, seed, bytes });
    }
    expect(accepted.length).toBeGreaterThan(MUTATIONS / 10);
    expect(refusedByPyarrow(accepted)).toEqual([]);
  });

  test('extension types that are accepted are read by pyarrow as well', () => {
    const files = readdirSync(directory).filter((file) => file.startsWith('extension'));
    const streams = files.map((name) => ({ name, seed: 0, bytes: readFileSync(join(directory, name)) }));
    const accepted = streams.filter(({ bytes }) => isAccepted(bytes));
    expect(accepted.length).toBeGreaterThan(30);
    expect(accepted.length).toBeLessThan(streams.length / 2);
    expect(refusedByPyarrow(accepted)).toEqual([]);
  });

  test('64-bit integers keep every digit in JSON results', () => {
    const bytes = load('int64');
    const part = { state: 'ok' as const, from: 0, count: 3, output: { batchId: 1, bytes }, outputRow: 0 };
    expect(resultJson([part], { type: 'int64', nullable: true }).values).toBe(
      '-9223372036854775808,9223372036854775807,0',
    );
  });

  test('the fixtures hold every type that the types page names', () => {
    const types = Object.keys(cases).map((name) => readStream(load(name)).fields[0]!.type);
    const found = new Set(types.map((type) => (typeof type === 'string' ? type : Object.keys(type)[0])));
    expect([...found].sort()).toEqual(
      (
        'binary bool date32 date64 decimal dictionary duration fixed_size_binary fixed_size_list float16 float32 ' +
        'float64 int16 int32 int64 int8 large_binary large_list large_utf8 list map null struct time timestamp ' +
        'uint16 uint32 uint64 uint8 utf8'
      ).split(' '),
    );
  });

  test('types and encodings that are not taken are refused by name', () => {
    const files = readdirSync(directory).filter((file) => file.startsWith('refused'));
    const messages = files.map((file) => {
      try {
        readStream(readFileSync(join(directory, file)));
        return `${file}: accepted`;
      } catch (error) {
        return `${file.slice(8, -6)}: ${error instanceof SluiceError ? error.message : String(error)}`;
      }
    });
    expect(messages.sort()).toEqual([
      'Arrow file: this is an Arrow file; send the IPC stream format',
      'binary view: message 0: field "result" has the type binary view, which is not supported; cast it first',
      'compressed lz4: message 1: its body is compressed; write the stream without compression',
      'compressed zstd: message 1: its body is compressed; write the stream without compression',
      'decimal of 32 bits: message 0: field "result" is a decimal of 32 bits; 128 and 256 are supported',
      'dense union: message 0: field "result" has the type union, which is not supported; cast it first',
      'interval: message 0: field "result" has the type interval, which is not supported; cast it first',
      'list view: message 0: field "result" has the type list view, which is not supported; cast it first',
      'run-end encoded: message 0: field "result" has the type run-end encoded, which is not supported; cast it first',
      'utf8 view: message 0: field "result" has the type utf8 view, which is not supported; cast it first',
    ]);
  });
});
