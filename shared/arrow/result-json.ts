/** A call's outcomes as JSON text, made from the output's buffers without values in between. */
import { SluiceError } from '../errors/sluice-error.ts';
import type { ArrayData } from './array-node.ts';
import type { Output } from './output-check.ts';
import { errorOf, joinParts, type ResultPart, type RowErrorRun } from './result-part.ts';
import { openStream } from './stream.ts';
import { batchRanges } from './stream-slice.ts';
import { type TextAt, textOf } from './value-text.ts';

export type ResultJson = {
  /** The values' JSON texts joined by commas, without brackets; rows that are not ok are null. */
  readonly values: string;
  readonly errors: readonly RowErrorRun[];
};

/** Beyond this the text nears the longest string of the engine (512 MiB), and no reader wants it as JSON. */
const TEXT_MAX = 256 * 1024 * 1024;

function tooLong(): never {
  throw new SluiceError(
    'not_acceptable',
    `the result is longer than ${TEXT_MAX} characters as JSON; accept application/vnd.apache.arrow.stream`,
  );
}

/**
 * 64-bit integers in full, NaN and ±Infinity as null, binary as base64, `json` embedded, times as ISO 8601, decimals as
 * strings, durations as integers in their unit, structs and maps as objects.
 */
export function resultJson(parts: readonly ResultPart[], output: Output): ResultJson {
  const values: string[] = [];
  let length = 0;
  const errors: RowErrorRun[] = [];
  for (const part of joinParts(parts)) {
    if (part.state !== 'ok') {
      errors.push({ from: part.from, count: part.count, ...errorOf(part) });
      length += part.count * 5;
      if (length > TEXT_MAX) tooLong();
      for (let i = 0; i < part.count; i++) values.push('null');
      continue;
    }
    for (const { batch, first, count } of batchRanges(
      openStream(part.output.bytes),
      part.outputRow,
      part.count,
    )) {
      const write = writerOf(batch.columns[0]!, output);
      for (let row = first; row < first + count; row++) {
        const text = write(row);
        length += text.length + 1;
        if (length > TEXT_MAX) tooLong();
        values.push(text);
      }
    }
  }
  return { values: values.join(','), errors };
}

/** A json output may lie in a plain utf8 column: its texts are embedded, not quoted. */
function writerOf(array: ArrayData, output: Output): TextAt {
  if (output.type !== 'json' || array.node.type === 'json') return textOf(array);
  const marked = jsonViews.get(array) ?? { ...array, node: { ...array.node, type: 'json' } };
  jsonViews.set(array, marked);
  return textOf(marked);
}
const jsonViews = new WeakMap<ArrayData, ArrayData>();
