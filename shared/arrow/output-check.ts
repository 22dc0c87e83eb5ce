/** A handler's answer against what the function declares. */
import type { TypeJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { firstNull } from './input-match.ts';
import { type ArrowStream, readStreamOnce } from './stream.ts';
import { sameType, typeText } from './type-text.ts';
import { firstInvalidJson } from './value-text.ts';

export type Output = { readonly type: TypeJson; readonly nullable: boolean };

const refuse = (detail: string): never => {
  throw new SluiceError('handler_output_invalid', detail);
};

/**
 * One column `result` of exactly the output type with exactly `rows` rows.
 * @throws SluiceError `handler_output_invalid` naming both types or both lengths
 */
export function checkOutput(bytes: Uint8Array, output: Output, rows: number): ArrowStream {
  const stream = readOutput(bytes);
  const [field] = stream.fields;
  if (field === undefined || stream.fields.length !== 1 || field.name !== 'result')
    return refuse(`the answer has the columns ${names(stream)}, expected one column "result"`);
  if (!isOutputType(field.type, output.type))
    return refuse(
      `the answer is of type ${typeText(field.type)}, the function declares ${typeText(output.type)}`,
    );
  if (stream.rows !== rows)
    return refuse(
      `the handler got ${rows} rows and returned ${stream.rows}; it must return one value for each row`,
    );
  for (const batch of stream.batches) {
    const row = output.nullable ? -1 : firstNull(batch.columns[0]!);
    if (row >= 0) refuse(`row ${batch.from + row} of the answer is null, and the output is not nullable`);
    const bad = output.type === 'json' ? firstInvalidJson(batch.columns[0]!) : -1;
    if (bad >= 0)
      refuse(`row ${batch.from + bad} of the answer is not valid JSON, as the output type json needs`);
  }
  return stream;
}

/** A json column may come as plain text: the mark in its metadata is optional. */
const isOutputType = (actual: TypeJson, declared: TypeJson): boolean =>
  declared === 'json' ? actual === 'json' || actual === 'utf8' : sameType(actual, declared);

const names = (stream: ArrowStream): string => stream.fields.map((f) => `"${f.name}"`).join(', ') || '(none)';

function readOutput(bytes: Uint8Array): ArrowStream {
  try {
    return readStreamOnce(bytes);
  } catch (error) {
    if (error instanceof SluiceError)
      return refuse(`the answer is not a valid Arrow stream: ${error.message}`);
    throw error;
  }
}
