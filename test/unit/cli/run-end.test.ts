import { describe, expect, it } from 'vitest';
import { exitCodeOf, UsageError } from '../../../cli/failure.ts';
import { RowsFailedError, VersionChangedError } from '../../../cli/run/chunk-calls.ts';
import { INTERRUPTED, runEnd } from '../../../cli/run/run-end.ts';
import { ConnectionError } from '../../../sdk/index.ts';

const said = (error: unknown, rowsDone = 1200): string =>
  (runEnd(error, rowsDone, 'out.parquet.parts') as Error).message;

const KEPT = '1,200 finished rows are kept in out.parquet.parts';

describe('a run that stops', () => {
  it('offers to go on without rows where a row is the cause, and nowhere else', () => {
    expect(said(new RowsFailedError('Row 7 failed: no.'))).toBe(
      `Row 7 failed: no. Correct the row and run the same command again, or go on without such rows with --on-error null; ${KEPT}.`,
    );
    for (const error of [
      new ConnectionError('http://h', 'no'),
      new Error('full'),
      new Error('a quote is open'),
    ])
      expect(said(error)).not.toMatch(/--on-error|Correct/);
    expect(said(new Error('the disk is full'))).toBe(
      `the disk is full. The same command goes on from there: ${KEPT}.`,
    );
  });

  it('says what is kept only where something is that is used again', () => {
    expect(said(new VersionChangedError('f was deployed again; run it again.'))).toBe(
      'f was deployed again; run it again.',
    );
    expect(said(new Error('in.csv is no CSV'), 0)).toBe('in.csv is no CSV.');
    expect(said(new UsageError('--keep x'))).toBe('--keep x');
  });

  it('at an interrupt ends with its exit code', () => {
    const end = runEnd(INTERRUPTED, 1200, 'out.parquet.parts');
    expect((end as Error).message).toBe(`Interrupted; ${KEPT}. Run the same command again to go on.`);
    expect(exitCodeOf(end)).toBe(130);
    expect(said(INTERRUPTED, 0)).toBe(
      'Interrupted before any row was finished. Run the same command again to start anew.',
    );
  });
});
