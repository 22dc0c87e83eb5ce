/** A batch's input as a whole, before any of it runs. */
import type { Endpoint } from '../../shared/wire/openai/task-request.ts';
import { isFault, parseBatchLine } from './batch-line.ts';
import type { LineFault } from './batch-records.ts';
import { CustomIds } from './custom-ids.ts';
import { linesOf } from './lines.ts';

/** Who sees so many knows what is wrong. */
const FAULTS_MAX = 100;
/** Lines between two looks at whether to go on, and a breath for others on the thread. */
const BREATH_LINES = 1000;

export type Validated = { readonly total: number; readonly faults: readonly LineFault[] };

/** @param goOn is asked now and then, and throws to stop */
export const validateInput = async (
  bytes: AsyncIterable<Uint8Array>,
  endpoint: Endpoint,
  goOn: () => void,
): Promise<Validated> => {
  const ids = new CustomIds();
  const faults: LineFault[] = [];
  let total = 0;
  for await (const line of linesOf(bytes, { byte: 0, line: 1 })) {
    total += 1;
    if (total % BREATH_LINES === 0) {
      goOn();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const parsed = parseBatchLine(line, endpoint);
    if (isFault(parsed)) faults.push(parsed);
    else if (!ids.add(parsed.customId)) faults.push(duplicate(line.number, parsed.customId));
    if (faults.length >= FAULTS_MAX) break;
  }
  if (total === 0)
    faults.push({ code: 'empty_file', line: null, param: null, message: 'The input file has no lines.' });
  return { total, faults };
};

const duplicate = (line: number, customId: string): LineFault => ({
  code: 'duplicate_custom_id',
  line,
  param: 'custom_id',
  message: `Line ${line}: custom_id is ${JSON.stringify(customId)}, as that of a line before it; give each line its own.`,
});
