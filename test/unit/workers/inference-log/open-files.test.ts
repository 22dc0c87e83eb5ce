/** What is gathered for one file: rows of an hour, and of so many bytes as a file has. */
import { describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../../shared/arrow/index.ts';
import type { FieldJson } from '../../../../shared/domain/function.ts';
import { INFERENCE_FLUSH_MS_MAX } from '../../../../shared/domain/inference.ts';
import { type GatheredFile, OpenFiles } from '../../../../workers/inference-log/open-files.ts';
import type { Sample, VersionFacts } from '../../../../workers/inference-log/sample.ts';

const X: FieldJson = { name: 'x', type: 'int64', nullable: true };
const FACTS: VersionFacts = {
  ...{ versionId: 1, functionName: 'model.g', group: 'g', model: 'm', modelVersion: 1, functionVersion: 'v' },
  ...{ retentionMs: 60_000, flushMs: 3_600_000, inputs: [X], output: 'utf8' },
};

const sampleOf = (rows: number, at: number, message: string | null = null): Sample => ({
  ...{ versionId: 1, rows, bytes: 1000, at, attempt: 1, batchRows: rows, handlerMs: 1 },
  streams: [rowsToStream({ x: new Array(rows).fill(1) }, [X])],
  output: null,
  runs: [
    {
      ...{ callId: 1, row: 0, count: rows, input: 0, output: -1 },
      error: message === null ? null : { code: 'handler_error', message },
    },
  ],
});

const gathered = (samples: readonly Sample[]): readonly GatheredFile[] => {
  const closed: GatheredFile[] = [];
  const files = new OpenFiles((file) => closed.push(file));
  files.open(FACTS);
  for (const sample of samples) files.add(sample);
  files.flush(null);
  return closed;
};

describe('a file that is gathered', () => {
  it('has rows of an hour, however clocks are set and timers sleep', () => {
    const hour = INFERENCE_FLUSH_MS_MAX;
    const times = [10 * hour, 10 * hour + 1, 13 * hour, 13 * hour + 1, 2 * hour];
    const files = gathered(times.map((at) => sampleOf(1, at)));
    expect(files.map(({ samples }) => samples.map(({ at }) => at))).toEqual([
      [times[0], times[1]],
      [times[2], times[3]],
      [times[4]],
    ]);
  });

  it('counts a message for each row that it is written for', () => {
    const message = '界'.repeat(1000);
    const samples = [sampleOf(20_000, 1, message), sampleOf(1000, 1, message), sampleOf(1000, 1)];
    const files = gathered(samples);
    expect(files.reduce((sum, { rows }) => sum + rows, 0)).toBe(22_000);
    expect(files.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(3000);
    for (const { samples: some } of files) {
      const failed = some.flatMap(({ runs }) => runs).filter(({ error }) => error !== null);
      expect(failed.reduce((sum, { count }) => sum + count, 0)).toBeLessThan(12_000);
    }
  });
});
