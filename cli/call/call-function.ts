/** What `sluice call` does once its options are known. */
import { readFileSync, statSync } from 'node:fs';
import type { CallHandle, CallInput, CallOptions, Sluice } from '../../sdk/index.ts';
import { exactJson, isExactNumber } from '../../shared/arrow/index.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { CommandError, UsageError } from '../failure.ts';
import { counted, jsonValue } from '../print.ts';
import { awaited } from './awaited-call.ts';

export type CallRequest = {
  readonly json: string | null;
  readonly input: string | null;
  readonly timeoutMs: number | undefined;
  readonly isWaiting: boolean;
  readonly submission: CallOptions;
};

const parsed = (text: string): unknown => {
  try {
    return exactJson(text).value;
  } catch {
    return undefined;
  }
};

const keyOf = (value: string): string => value.slice(0, value.indexOf('='));

/** `text=hello`, `n=3`, `tags=["a"]`. */
export const rowOf = (values: readonly string[]): Record<string, unknown> => {
  const row: Record<string, unknown> = {};
  for (const value of values) {
    const equals = value.indexOf('=');
    if (equals <= 0)
      throw new UsageError(`"${value}" is not key=value; write the input's name, =, and its value.`);
    const [name, text] = [value.slice(0, equals), value.slice(equals + 1)];
    if (Object.hasOwn(row, name))
      throw new UsageError(`${name} is given twice, and key=value is one row; give several with --json.`);
    row[name] = parsed(text) ?? (text === 'null' ? null : text);
  }
  return row;
};

/** Rows or columns out of JSON or JSON Lines. */
export const inputOf = (text: string, where: string): CallInput => {
  const whole = parsed(text);
  if (Array.isArray(whole)) return whole;
  if (typeof whole === 'object' && whole !== null && !isExactNumber(whole)) {
    const { rows, columns } = whole as { rows?: CallInput; columns?: CallInput };
    return rows ?? columns ?? [whole];
  }
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.map((line, i) => {
    const row = parsed(line);
    if (row !== undefined) return row;
    throw new UsageError(
      `${where}, line ${i + 1}, is not JSON; give {"rows": […]}, {"columns": {…}}, or a row a line.`,
    );
  });
};

const rowsOf = (values: readonly string[], { json, input }: CallRequest): CallInput => {
  const given = [values.length > 0, json !== null, input !== null].filter(Boolean).length;
  if (given !== 1)
    throw new UsageError(
      'Give the rows in one way: key=value, --json, or --input FILE (- for standard input).',
    );
  if (json !== null) return inputOf(json, '--json');
  if (input !== null) {
    if (input !== '-' && statSync(input).isDirectory())
      throw new UsageError(`--input ${input} is a directory; give a file of rows as JSON.`);
    return inputOf(readFileSync(input === '-' ? 0 : input, 'utf8'), input);
  }
  return [rowOf(values)];
};

/** A shell has no types: `text=1` is a number, and who meant the text is told how to write it. */
const submitted = async (
  client: Sluice,
  name: string,
  values: readonly string[],
  request: CallRequest,
): Promise<CallHandle> => {
  const rows = rowsOf(values, request);
  try {
    return await client.function(name).deferBatch(rows, request.submission);
  } catch (error) {
    const isText = error instanceof SluiceError && /, expected (large_)?utf8$/.test(error.message);
    const [example] = values.filter((value) => typeof rowOf([value])[keyOf(value)] !== 'string');
    if (!isText || example === undefined) throw error;
    const text = `${keyOf(example)}='${JSON.stringify(example.slice(keyOf(example).length + 1))}'`;
    throw new CommandError(`${error.message}; a value that is JSON is taken as that, so write ${text}.`);
  }
};

export const callFunction = async (
  client: Sluice,
  name: string,
  values: readonly string[],
  request: CallRequest,
): Promise<void> => {
  const handle = await submitted(client, name, values, request);
  if (!request.isWaiting) {
    process.stdout.write(`${handle.callId}\n`);
    return;
  }
  const { values: results, errors } = await awaited(client, handle, handle.submitted!, request.timeoutMs);
  process.stdout.write(`${JSON.stringify(results, jsonValue)}\n`);
  const first = errors.entries().next().value;
  if (first)
    throw new CommandError(
      `${errors.size} of ${counted(results.length, 'row')} failed; row ${first[0]}: ${first[1].message} ` +
        `(\`sluice calls result ${handle.callId} --json\` shows every error).`,
    );
};
