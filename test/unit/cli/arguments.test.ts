import { describe, expect, it } from 'vitest';
import { inputOf, rowOf } from '../../../cli/call/call-function.ts';
import { commonFolder } from '../../../cli/deploy/node-manifest.ts';
import { exitCodeOf, explain, UsageError } from '../../../cli/failure.ts';
import { span } from '../../../cli/print.ts';
import { Rate } from '../../../cli/run/progress.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';

describe('the rows of `sluice call`', () => {
  it('are key=value, JSON where it is JSON', () => {
    expect(rowOf(['text=a man=eats', 'n=3', 'list=[1,2]', 'ok=true', 'none=null', 'empty='])).toEqual({
      text: 'a man=eats',
      n: 3,
      list: [1, 2],
      ok: true,
      none: null,
      empty: '',
    });
    expect(() => rowOf(['text'])).toThrow('"text" is not key=value');
    expect(() => rowOf(['text=1', 'text=2'])).toThrow('text is given twice');
  });

  it('are rows, columns, a list or JSON Lines', () => {
    expect(inputOf('{"rows":[{"a":1}]}', 'x')).toEqual([{ a: 1 }]);
    expect(inputOf('{"columns":{"a":[1]}}', 'x')).toEqual({ a: [1] });
    expect(inputOf('[1,2]', 'x')).toEqual([1, 2]);
    expect(inputOf('{"a":1}', 'x')).toEqual([{ a: 1 }]);
    expect(inputOf('{"a":1}\n{"a":2}\n', 'x')).toEqual([{ a: 1 }, { a: 2 }]);
    expect(() => inputOf('{"a":1}\nnope', 'rows.json')).toThrow('rows.json, line 2, is not JSON');
  });
});

describe('what went wrong', () => {
  it('is one sentence and the way on', () => {
    expect(explain(new SluiceError('function_not_found', 'There is no function "x"'))).toBe(
      'There is no function "x". Deploy it with `sluice deploy`, or list with `sluice functions`.',
    );
    expect(explain(Object.assign(new Error('open'), { code: 'ENOENT', path: 'a.csv' }))).toBe(
      'a.csv does not exist.',
    );
    expect(exitCodeOf(new UsageError('x'))).toBe(2);
    expect(exitCodeOf(new Error('x'))).toBe(1);
  });
});

describe('times and rates', () => {
  it('have the unit that fits', () => {
    expect([850, 12_000, 180_000, 18_000_000, 400_000_000].map(span)).toEqual([
      '850 ms',
      '12 s',
      '3 min',
      '5 h',
      '5 d',
    ]);
  });

  it('are of the last while', () => {
    const rate = new Rate();
    expect(rate.add(0, 0)).toBeNull();
    expect(rate.add(1000, 1000)).toBe(1000);
    for (let second = 2; second <= 40; second++) rate.add(1000 + second, second * 1000);
    expect(rate.add(1041, 41_000)).toBeCloseTo(1, 1);
  });
});

it('shipped files share the deepest folder', () => {
  expect(commonFolder(['/a/b/c.ts'])).toBe('/a/b');
  expect(commonFolder(['/a/b/c.ts', '/a/d/e.ts'])).toBe('/a');
  expect(commonFolder(['/a/b/c.ts', '/a/b/d/e.ts'])).toBe('/a/b');
});
