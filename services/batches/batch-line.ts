/** One line of a batch's input: what it asks, or what is wrong with it. */
import { isUtf8 } from 'node:buffer';
import { isObject, type Members } from '../../shared/wire/openai/request-members.ts';
import type { Endpoint } from '../../shared/wire/openai/task-request.ts';
import type { LineFault } from './batch-records.ts';
import { LINE_BYTES_MAX, type Line } from './lines.ts';

const CUSTOM_ID_CHARACTERS_MAX = 512;
const KNOWN = ['custom_id', 'method', 'url', 'body'];

export type BatchLine = {
  readonly number: number;
  readonly customId: string;
  readonly body: Members;
  /** Rows that it asks for, as far as that can be told without its model. */
  readonly rows: number;
};

const shown = (value: unknown): string => {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  return (JSON.stringify(value) ?? 'missing').slice(0, 100);
};

/** A lone surrogate has no UTF-8: ids that differ in theirs alone would be taken for one. */
const isCustomId = (id: unknown): id is string =>
  typeof id === 'string' && id !== '' && id.length <= CUSTOM_ID_CHARACTERS_MAX && id.isWellFormed();

const rowsOf = ({ input, prompt }: Members): number => {
  const rows = input ?? prompt;
  return Array.isArray(rows) && rows.length > 0 && typeof rows[0] !== 'number' ? rows.length : 1;
};

const parsed = (bytes: Buffer): unknown => {
  if (!isUtf8(bytes)) return undefined;
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
};

export const parseBatchLine = ({ number, bytes }: Line, endpoint: Endpoint): BatchLine | LineFault => {
  const fault = (code: string, param: string | null, message: string): LineFault => ({
    ...{ code, line: number, param, message: `Line ${number}: ${message}` },
  });
  if (bytes === null) return fault('line_too_long', null, `it is longer than ${LINE_BYTES_MAX} bytes.`);
  const value = parsed(bytes);
  if (!isObject(value)) return fault('invalid_json_line', null, 'it is no JSON object in UTF-8.');
  const unknown = Object.keys(value).find((name) => !KNOWN.includes(name));
  if (unknown !== undefined)
    return fault(
      'invalid_request',
      unknown.slice(0, 64),
      `${shown(unknown)} is no member; there are ${KNOWN.join(', ')}.`,
    );
  const { custom_id: customId, method, url, body } = value;
  if (!isCustomId(customId))
    return fault(
      'missing_required_parameter',
      'custom_id',
      `custom_id is ${shown(customId)}; give a string of 1 to ${CUSTOM_ID_CHARACTERS_MAX} characters without lone surrogates.`,
    );
  if (method !== 'POST') return fault('invalid_method', 'method', `method is ${shown(method)}; give "POST".`);
  if (url !== endpoint)
    return fault('invalid_url', 'url', `url is ${shown(url)}, and the batch is for ${endpoint}.`);
  if (!isObject(body))
    return fault('missing_required_parameter', 'body', `body is ${shown(body)}; give an object.`);
  return { number, customId, body, rows: rowsOf(body) };
};

export const isFault = (line: BatchLine | LineFault): line is LineFault => 'code' in line;
