/** What an engine's refusal is to the queue: an attempt, an attempt with a wait of its own, or an error that another run would repeat. */
import { isTooDeep } from '../../shared/errors/nesting.ts';
import type { HandlerAnswer } from '../handler.ts';
import type { Reply } from './engine-connection.ts';

type ErrorEnd = Extract<HandlerAnswer, { readonly end: 'error' }>;

const TOO_DEEP = 'its JSON nests too deep; answer values of fewer levels, or as text';
/** What a row's error quotes of an answer. */
const QUOTED_CHARACTERS_MAX = 1000;
/** An error of more bytes than this is no message for anybody; its end is quoted as it is. */
const PARSED_BYTES_MAX = 65_536;
/** An engine that wants more than this is not waited for; the retries are spent at their own pace. */
const RETRY_AFTER_MS_MAX = 3_600_000;
/** The rows are wrong, or too many: the same request fails alike, a part of it may not. */
const FINAL: ReadonlySet<number> = new Set([400, 413, 414, 422]);

export const errorAnswer = (
  code: 'handler_error' | 'handler_output_invalid' | 'internal',
  kind: string,
  message: string,
): ErrorEnd => ({ end: 'error', error: { code, kind, message }, mro: [kind] });

/** The row's own fault, or nobody's: another run of the same rows fails alike, so isolation looks for it at once. */
export const finalAnswer = (kind: string, message: string): ErrorEnd => ({
  ...errorAnswer('handler_error', kind, message),
  isFinal: true,
});

/** A 2xx whose body is no answer; `text`: in the caller's words, where the error has others. */
export const wrongAnswer = (path: string, error: Error, text = error.message): ErrorEnd =>
  errorAnswer(
    'handler_output_invalid',
    'WrongAnswer',
    `the engine's answer is not one of ${path}: ${isTooDeep(error) ? TOO_DEEP : text}`,
  );

/** The end says most: a traceback's last line is the exception. */
const shortened = (text: string): string =>
  text.length <= QUOTED_CHARACTERS_MAX ? text : `…${text.slice(-QUOTED_CHARACTERS_MAX)}`;

/** null where the text is no JSON. */
export const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

/** undefined where the value is no object. */
export const memberOf = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? Reflect.get(value, name) : undefined;

/** What the body says went wrong: the protocol's `error`, FastAPI's `detail`, or its text. */
export const errorText = (body: Buffer): string => {
  const text = body.subarray(-PARSED_BYTES_MAX).toString('utf8');
  const value = jsonOf(text);
  for (const name of ['error', 'detail', 'message']) {
    const member = memberOf(value, name);
    if (member === undefined || member === null) continue;
    return shortened(typeof member === 'string' ? member : JSON.stringify(member));
  }
  return shortened(text.trim());
};

/** Seconds, or an HTTP date (RFC 9110, section 10.2.3); null: it names no time. */
export const retryAfterMs = (header: string | undefined, now: number): number | null => {
  if (header === undefined) return null;
  const ms = /^\s*\d{1,9}\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(0, ms), RETRY_AFTER_MS_MAX);
};

/** The answer to a reply whose status is not 2xx. */
export const failureOf = (reply: Reply, path: string, now: number): ErrorEnd => {
  const { status, body, header } = reply;
  const text = errorText(body);
  const said = text === '' ? '' : `: ${text}`;
  const isRedirect = status >= 300 && status < 400;
  const where = isRedirect
    ? `, a redirect to ${header('location') ?? 'nowhere'}, which is not followed`
    : said;
  const answer = errorAnswer(
    'handler_error',
    `HTTP ${status}`,
    `the engine answered ${status} to POST ${path}${where}`,
  );
  if (FINAL.has(status)) return { ...answer, isFinal: true };
  const wait = status === 429 || status === 503 ? retryAfterMs(header('retry-after'), now) : null;
  return wait === null ? answer : { ...answer, retryAfterMs: wait };
};
