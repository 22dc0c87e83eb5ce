import { describe, expect, it } from 'vitest';
import { type ColumnRequest, planColumns } from '../../../cli/run/column-plan.ts';
import type { FieldJson } from '../../../shared/domain/function.ts';

const input = (name: string, nullable = false): FieldJson => ({ name, type: 'utf8', nullable });

const plan = (request: Partial<ColumnRequest>) =>
  planColumns({
    columns: [],
    keep: null,
    inputs: [input('text')],
    functionName: 'embed',
    available: ['id', 'text', 'body'],
    hasErrors: false,
    ...request,
  });

describe('the columns of a run', () => {
  it("are the function's inputs by name, and the others are kept", () => {
    const { sent, kept, types } = plan({});
    expect(sent).toEqual([{ column: 'text', as: 'text' }]);
    expect(kept).toEqual(['id', 'body']);
    expect([...types.keys()]).toEqual(['text']);
  });

  it('are renamed with input=column, or by being the only one', () => {
    expect(plan({ columns: ['text=body'] }).sent).toEqual([{ column: 'body', as: 'text' }]);
    expect(plan({ columns: ['body'] }).sent).toEqual([{ column: 'body', as: 'text' }]);
    expect(plan({ columns: ['body'] }).kept).toEqual(['id', 'text']);
    expect(plan({ columns: ['text', 'b=body'], inputs: [input('text'), input('b')] }).sent).toEqual([
      { column: 'text', as: 'text' },
      { column: 'body', as: 'b' },
    ]);
    expect(plan({ columns: ['a=b'], available: ['a=b'] }).sent).toEqual([{ column: 'a=b', as: 'text' }]);
  });

  it('may be any where the function takes any', () => {
    expect(plan({ inputs: null, columns: ['x=id'] }).sent).toEqual([{ column: 'id', as: 'x' }]);
    expect(plan({ inputs: null }).sent).toHaveLength(3);
  });

  it('are kept as --keep says', () => {
    expect(plan({ keep: ['id'] }).kept).toEqual(['id']);
    expect(plan({ keep: ['none'] }).kept).toEqual([]);
    expect(plan({ keep: ['all'] }).kept).toEqual(['id', 'text', 'body']);
    expect(plan({ keep: ['all'], available: ['text', 'all'] }).kept).toEqual(['all']);
  });

  it('that are wrong are named with what there is', () => {
    expect(() => plan({ columns: ['txt'] })).toThrow('no column "txt"; it has id, text, body');
    expect(() => plan({ columns: ['nope=body'] })).toThrow('embed has no input "nope"; its inputs are text');
    expect(() => plan({ available: ['id'] })).toThrow('Name the column with --column text=COLUMN');
    expect(() => plan({ columns: ['text'], inputs: [input('text'), input('lang')] })).toThrow(
      'embed also takes "lang"; add --column lang=COLUMN',
    );
    expect(() => plan({ columns: ['text', 'text=body'] })).toThrow('gives the input "text" twice');
    expect(() => plan({ keep: ['nope'] })).toThrow('--keep nope');
    expect(() => plan({ available: ['text', 'result'] })).toThrow('a column "result"');
    expect(() => plan({ available: ['text', 'error'], hasErrors: true })).toThrow('a column "error"');
  });

  it('must be there also where the input can be null: a chunk has every column', () => {
    const inputs = [input('text'), input('lang', true)];
    expect(() => plan({ inputs, available: ['id', ' text', 'a;b'] })).toThrow(
      'The input has no column "text", which embed takes; it has id, " text", "a;b". Name the column with --column text=COLUMN.',
    );
    expect(() => plan({ inputs })).toThrow('no column "lang", which embed takes; it has id, text, body');
    expect(() => plan({ inputs, columns: ['text'] })).toThrow('add --column lang=COLUMN');
  });
});
