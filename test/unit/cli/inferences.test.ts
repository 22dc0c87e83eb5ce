import { describe, expect, it, vi } from 'vitest';
import { driftOf } from '../../../cli/commands/group-inferences.ts';
import { printDrift, printFiles } from '../../../cli/inferences/inference-views.ts';
import { inferenceStoreOf } from '../../../cli/inferences/store-options.ts';
import { spanMs, timeText } from '../../../cli/inferences/time-options.ts';
import { deploymentOf, updateOf } from '../../../cli/models/deployment-options.ts';
import type { DriftJson, ScalingGroupJson } from '../../../sdk/index.ts';

const NOW = Date.UTC(2026, 10, 3);
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** What `print` writes to standard output. */
const printed = (print: () => void): string[] => {
  const write = vi.spyOn(process.stdout, 'write').mockImplementation(() => true);
  try {
    print();
    return write.mock.calls
      .map(([text]) => String(text))
      .join('')
      .split('\n');
  } finally {
    write.mockRestore();
  }
};

describe('times and spans of the command line', () => {
  it('are in UTC, or ago', () => {
    const times = ['2026-11-01', '2026-11-01 12:30', '2026-11-01T12:30:01.5+02:00', '12h', '1.5 min'];
    expect(times.map((text) => timeText('--from', text, NOW))).toEqual([
      '2026-11-01T00:00:00.000Z',
      '2026-11-01T12:30:00.000Z',
      '2026-11-01T10:30:01.500Z',
      '2026-11-02T12:00:00.000Z',
      '2026-11-02T23:58:30.000Z',
    ]);
    expect(['250ms', '90s', '30min', '7d'].map((text) => spanMs('--window', text))).toEqual([
      ...[250, 90_000, 30 * MINUTE_MS, 7 * DAY_MS],
    ]);
  });

  it('are refused by their option', () => {
    for (const text of ['monday', '2026-13-01', '2026-11-01T25:00', '1732147200', '5 weeks', ''])
      expect(() => timeText('--from', text)).toThrow(`--from is ${text}; give a time such as 2026-11-01`);
    expect(() => spanMs('--window', '1')).toThrow('--window is 1; give a span such as');
  });
});

describe('the inference store of a deployment', () => {
  it('is said by its options', () => {
    expect(inferenceStoreOf({})).toBe(undefined);
    expect(inferenceStoreOf({ inferenceStore: true })).toEqual({});
    expect(inferenceStoreOf({ inferenceStore: false })).toBe(null);
    const named = { inferenceSampleRate: 0.1, inferenceRetention: '30d', inferenceFlush: '10s' };
    expect(inferenceStoreOf(named)).toEqual({
      sample_rate: 0.1,
      retention_ms: 30 * DAY_MS,
      flush_ms: 10_000,
    });
    expect(deploymentOf('m', { inferenceStore: true })).toEqual({ model: 'm', inference_store: {} });
    expect(() => inferenceStoreOf({ inferenceSampleRate: 0 })).toThrow('--inference-sample-rate is 0');
    expect(() => inferenceStoreOf({ inferenceSampleRate: Number.NaN })).toThrow(
      '--inference-sample-rate is NaN',
    );
    expect(() => inferenceStoreOf({ inferenceStore: false, inferenceFlush: '1s' })).toThrow(
      '--no-inference-store goes without',
    );
  });

  it('keeps what an update does not name', () => {
    const store = { sample_rate: 0.5, retention_ms: DAY_MS, flush_ms: MINUTE_MS };
    const group = {
      ...{ model: 'm', version: 3, update: null },
      inference_store: store,
      scaling: {},
      resources: {},
    } as unknown as ScalingGroupJson;
    const after = (options: Parameters<typeof updateOf>[1]) => updateOf(group, options).inference_store;
    expect(after({ port: 1 })).toEqual(store);
    expect(after({ inferenceStore: true })).toEqual(store);
    expect(after({ inferenceFlush: '1s' })).toEqual({ ...store, flush_ms: 1000 });
    expect(after({ inferenceStore: false })).toBe(null);
    expect(updateOf(group, { inferenceStore: true }).version).toBe(3);
    expect(updateOf(group, { modelVersion: 'latest' }).version).toBe('latest');
    const updating = { ...group, update: { version: 4 } } as unknown as ScalingGroupJson;
    expect(updateOf(updating, { port: 1 }).version).toBe(4);
    expect(() => updateOf(group, {})).toThrow('--model-version latest');
    const without = { ...group, inference_store: null };
    expect(updateOf(without, { inferenceSampleRate: 1 }).inference_store).toEqual({ sample_rate: 1 });
  });
});

const reference = { from: '2026-11-01T00:00:00.000Z', until: '2026-11-02T00:00:00.000Z' };
const due_at = '2026-11-03T00:00:30.000Z';
const drift: DriftJson = { reference, window_ms: DAY_MS, figures: null, due_at };

describe('drift on the command line', () => {
  it('is set by what is given, and keeps the rest', () => {
    const given = { referenceFrom: '2d', referenceUntil: '2026-11-02' };
    expect(driftOf({}, null)).toBe(null);
    expect(driftOf(given, null, NOW)).toEqual({ reference, window_ms: DAY_MS });
    expect(driftOf({ ...given, window: '6h' }, drift, NOW)).toEqual({
      reference,
      window_ms: 6 * 60 * MINUTE_MS,
    });
    expect(driftOf({ window: '1h' }, drift)).toEqual({ reference, window_ms: 60 * MINUTE_MS });
    expect(driftOf(given, { ...drift, window_ms: 5 * MINUTE_MS }, NOW)?.window_ms).toBe(5 * MINUTE_MS);
    expect(() => driftOf({ referenceFrom: '2d' }, drift)).toThrow('A reference has two ends');
    expect(() => driftOf({ window: '1h' }, null)).toThrow('There is no reference yet');
  });

  it('is shown with the largest shift first', () => {
    expect(printed(() => printDrift(drift, NOW))).toEqual([
      'reference: 2026-11-01T00:00:00.000Z to 2026-11-02T00:00:00.000Z',
      'window:    the last 24 h',
      'computed:  not yet, next in 30 s',
      '',
    ]);
    expect(printed(() => printDrift(drift, NOW + MINUTE_MS))[2]).toBe(
      'computed:  not yet, next within seconds',
    );
    const columns = [
      { column: 'input.rooms', psi: null, ks: null },
      { column: 'output', psi: 0.2, ks: 0.1 },
      { column: 'input.city', psi: 0.31234, ks: null },
    ];
    const figures = {
      at: '2026-11-02T23:59:40.000Z',
      reference_rows: 1,
      window_rows: 250,
      columns,
      reason: null,
    };
    expect(printed(() => printDrift({ ...drift, figures }, NOW))).toEqual([
      'reference: 2026-11-01T00:00:00.000Z to 2026-11-02T00:00:00.000Z, 1 row',
      'window:    the last 24 h, 250 rows',
      'computed:  20 s ago, next in 30 s',
      '',
      'COLUMN       PSI     KS',
      'input.city   0.3123  -       shifted',
      'output       0.2000  0.1000',
      'input.rooms  -       -',
      '',
    ]);
    const none = { ...figures, columns: [], reason: 'the window has no rows' };
    expect(printed(() => printDrift({ ...drift, figures: none }, NOW))).toContain(
      'no figures: the window has no rows',
    );
  });
});

it('files are shown with how long they are kept, and what they come to', () => {
  const expires_at = new Date(Date.now() + 5.1 * DAY_MS).toISOString();
  const file = { digest: 'sha256:0', href: '/', bytes: 2048, rows: 3, model: 'price', model_version: 2 };
  const files = [1, 2].map((day) => ({
    ...{ ...file, function_version: 'v', expires_at },
    ...{ from: `2026-11-0${day}T00:00:00.000Z`, until: `2026-11-0${day}T00:01:00.000Z` },
  }));
  expect(printed(() => printFiles(files))).toEqual([
    'FROM                      UNTIL                     ROWS  SIZE     MODEL  VERSION  KEPT FOR',
    '2026-11-01T00:00:00.000Z  2026-11-01T00:01:00.000Z  3     2.0 KiB  price  2        5 d',
    '2026-11-02T00:00:00.000Z  2026-11-02T00:01:00.000Z  3     2.0 KiB  price  2        5 d',
    '2 files, 6 rows, 4.0 KiB',
    '',
  ]);
});
