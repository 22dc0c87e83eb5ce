import { describe, expect, it } from 'vitest';
import { barLayout, makeLines } from '../../../cli/run/progress.ts';

describe('the progress of a run', () => {
  it('is a line each half minute where there is no terminal', () => {
    const said: string[] = [];
    let now = 1000;
    const { update } = makeLines(
      (line) => said.push(line),
      () => now,
    );
    for (let rows = 0; rows <= 7000; rows += 100, now += 1000) update(rows, 10_000);
    expect(said).toEqual([
      '3,000 of 10,000 rows, 100 rows/s, 70 s left\n',
      '6,000 of 10,000 rows, 100 rows/s, 40 s left\n',
    ]);
  });

  it('keeps its numbers on a narrow terminal, and the line within a wide one', () => {
    const filled = ({ format, barsize }: ReturnType<typeof barLayout>): string =>
      format
        .replace('{percentage}', '100')
        .replace(/\{(value|total)\}/g, '99999999')
        .replace('{rate}', '99,999 rows/s')
        .replace('{left}', '100 s left')
        .replace('{bar}', '█'.repeat(barsize));
    for (const columns of [34, 63, 64, 80, 200])
      expect(filled(barLayout(columns)).length).toBeLessThanOrEqual(columns);
    expect(filled(barLayout(34))).toBe('100%  99999999 rows  100 s left');
    expect(filled(barLayout(80))).toContain('█'.repeat(22));
  });
});
