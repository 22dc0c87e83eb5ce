/** Streams of all kinds of layouts, small enough to break at every byte. */

import { joinBytes } from '../../../shared/arrow/batch-sink.ts';
import { readStream, rowsToStream, sliceStream } from '../../../shared/arrow/index.ts';
import { END_OF_STREAM } from '../../../shared/arrow/message-frame.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';

const item = (type: TypeJson): FieldJson => ({ name: 'item', type, nullable: true });
const text = ['a', null, 'grüße', '', '🙂'];

const COLUMNS: Readonly<Record<string, readonly [TypeJson, readonly unknown[]]>> = {
  int32: ['int32', [1, null, 3, -4, 5]],
  int64: ['int64', [1, null, -(2 ** 40), '9223372036854775807', 5]],
  float16: ['float16', [1, null, 0.5, Number.NaN, -Infinity]],
  float64: ['float64', [1.5, null, Number.NaN, Infinity, 5]],
  bool: ['bool', [true, null, false, true, false]],
  null: ['null', [null, null, null, null, null]],
  utf8: ['utf8', text],
  large_utf8: ['large_utf8', text],
  json: ['json', [{ a: 1 }, null, [1, 2], 'x', 7]],
  binary: ['binary', ['AAEC', null, '', '/w==', 'AA==']],
  fixed_size_binary: [{ fixed_size_binary: 3 }, ['AAEC', null, 'AAEC', 'AAEC', 'AAEC']],
  list: [{ list: item('float64') }, [[1, 2], null, [], [null], [Number.NaN, 4]]],
  large_list: [{ large_list: item('utf8') }, [['a', 'é'], null, [], [null], ['x']]],
  fixed_size_list: [{ fixed_size_list: item('int8'), size: 2 }, [[1, 2], null, [null, 4], [5, 6], [7, 8]]],
  struct: [
    { struct: [{ name: 'a', type: 'int8', nullable: true }, item('utf8')] },
    [{ a: 1, item: 'x' }, null, { a: null, item: 'é' }, { item: null }, {}],
  ],
  map: [
    { map: [{ name: 'key', type: 'utf8', nullable: false }, item('int32')] },
    [{ a: 1 }, null, {}, { b: null }, { c: 3, d: 4 }],
  ],
  dictionary: [{ dictionary: 'utf8', index: 'int16', ordered: false }, ['a', null, 'b', 'a', 'é']],
  timestamp: [
    { timestamp: 'ns', tz: 'UTC' },
    ['2026-01-02T03:04:05.123456789Z', null, '1969-12-31T23:59:59.5Z', 0, 1],
  ],
  date32: ['date32', ['2026-02-28', null, '1969-12-31', '0001-01-01', 1]],
  date64: ['date64', ['2026-02-28', null, '1969-12-31', '0001-01-01', 86_400_000]],
  time: [{ time: 'us' }, ['12:34:56.789', null, '00:00:00', 1, '23:59:59.999999']],
  duration: [{ duration: 'ms' }, [1, null, -3, 4, 5]],
  decimal: [{ decimal: [20, 3], bits: 128 }, ['1.5', null, '-12345678901234.567', '0', 7]],
  decimal256: [{ decimal: [70, 2], bits: 256 }, ['1.5', null, `-${'9'.repeat(60)}.25`, '0', 7]],
};

export type Sample = { readonly name: string; readonly type: TypeJson; readonly bytes: Uint8Array };

export const SAMPLE_ROWS = 5;

/** One stream of one column `result` and five rows for every layout; row 1 is null. */
export const samples: readonly Sample[] = Object.entries(COLUMNS).map(([name, [type, values]]) => ({
  name,
  type,
  bytes: rowsToStream({ result: values }, [{ name: 'result', type, nullable: true }]),
}));

/** The sample once more in record batches of two rows. */
export function inBatches(bytes: Uint8Array): Uint8Array {
  const stream = readStream(bytes);
  const starts = Array.from({ length: Math.ceil(stream.rows / 2) }, (_, i) => i * 2);
  const heads = starts.map((from) => sliceStream(stream, from, Math.min(2, stream.rows - from)));
  const schemaBytes = stream.schemaMessage.length;
  const bodies = heads.map((head) => head.subarray(schemaBytes, head.length - END_OF_STREAM.length));
  return joinBytes([stream.schemaMessage, ...bodies, END_OF_STREAM]);
}
