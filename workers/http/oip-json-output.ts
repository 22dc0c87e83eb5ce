/** An engine's tensors as JSON, for functions whose output has no schema: a row's value of the only one, or an object of all. */
import { openStream, rowsToStream } from '../../shared/arrow/index.ts';
import { textOf } from '../../shared/arrow/value-text.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import { type Tensor, tensorRows } from '../../shared/wire/oip/index.ts';

const RESULT = 'result';

/** @returns an Arrow stream of one column; an error of the tensors is a SluiceError */
export const jsonOutput = (tensors: readonly Tensor[], { nullable }: FunctionSpec['output']) => {
  const { fields, batches } = openStream(tensorRows(tensors, null).bytes);
  const names = fields.map(({ name }) => JSON.stringify(name));
  const values: string[] = [];
  for (const { columns, rows } of batches) {
    const writers = columns.map(textOf);
    for (let row = 0; row < rows; row += 1) {
      const texts = writers.map((write) => write(row));
      values.push(texts.length === 1 ? texts[0]! : `{${texts.map((one, i) => `${names[i]}:${one}`).join()}}`);
    }
  }
  return rowsToStream({ [RESULT]: values }, [{ name: RESULT, type: 'utf8', nullable }]);
};
