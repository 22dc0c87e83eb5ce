/**
 * Plain JSON, for servers without a protocol: `POST {base}/infer` with `{"inputs": [ROW, …]}`, each row an object of its columns.
 * The answer is a list with a value for each row, by itself or as `outputs`, `predictions` or `results`. A server whose
 * validation says that it misses `instances` gets the rows under that name from then on.
 */
import { isUtf8 } from 'node:buffer';
import {
  CastError,
  exactJson,
  exactNumbersFor,
  isExactNumber,
  openStream,
  rowsToStream,
} from '../../shared/arrow/index.ts';
import { textOf } from '../../shared/arrow/value-text.ts';
import type { EngineSpec } from '../../shared/domain/engine.ts';
import type { FieldJson, FunctionSpec } from '../../shared/domain/function.ts';
import { isTooDeep } from '../../shared/errors/nesting.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { batchStream } from '../batch-bytes.ts';
import { outputOfMessage } from '../grpc/answer-columns.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext } from '../handler.ts';
import type { EngineConnection, Reply } from './engine-connection.ts';
import {
  errorAnswer,
  errorText,
  failureOf,
  finalAnswer,
  jsonOf,
  memberOf,
  wrongAnswer,
} from './failed-reply.ts';
import { inferenceHeaders } from './inference-headers.ts';

/** Text is put together in pieces: the longest string of our engine is 512 MiB, and a batch of JSON may be longer. */
const PIECE_CHARACTERS = 2 ** 20;
const ANSWERS = ['outputs', 'predictions', 'results'] as const;
const RESULT = 'result';

type Parts = {
  readonly connection: EngineConnection;
  readonly spec: FunctionSpec;
  readonly engine: EngineSpec;
};
type Member = 'inputs' | 'instances';

/** A wrong answer, in words. */
class WrongAnswer extends Error {}

export class JsonInference {
  readonly #parts: Parts;
  readonly #path: string;
  readonly #fields: readonly FieldJson[];
  #member: Member = 'inputs';

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#path = `${parts.engine.basePath}/infer`;
    const { type, nullable } = parts.spec.output;
    this.#fields = [{ name: RESULT, type, nullable }];
  }

  async prepare(): Promise<void> {
    // There is nothing that such a server says of itself.
  }

  async infer(batch: HandlerBatch, context: HandlerContext, signal: AbortSignal): Promise<HandlerAnswer> {
    let rows: readonly Uint8Array[];
    try {
      rows = rowsJson(batchStream(batch, this.#parts.spec.inputs));
    } catch (error) {
      if (error instanceof CastError) return finalAnswer('CastError', error.message);
      throw error;
    }
    let reply = await this.#post(rows, context, signal);
    if (this.#member === 'inputs' && misses(reply, 'instances')) {
      this.#member = 'instances';
      reply = await this.#post(rows, context, signal);
    }
    if (reply.status < 200 || reply.status >= 300) return failureOf(reply, this.#path, Date.now());
    return this.#answerOf(reply);
  }

  #post(rows: readonly Uint8Array[], context: HandlerContext, signal: AbortSignal): Promise<Reply> {
    const body = [Buffer.from(`{"${this.#member}":`), ...rows, Buffer.from('}')];
    const headers = inferenceHeaders(context);
    return this.#parts.connection.request({ path: this.#path, body, headers, signal });
  }

  #answerOf(reply: Reply): HandlerAnswer {
    const { output } = this.#parts.spec;
    try {
      const values = valuesOf(reply, this.#fields).map((value) => unwrapped(value, output));
      if (values.length === 0) return { end: 'ok', outputs: [] };
      const message = outputOfMessage(rowsToStream({ [RESULT]: values }, this.#fields, true), output);
      return { end: 'ok', outputs: message === null ? [] : [message] };
    } catch (error) {
      if (error instanceof EngineError) return errorAnswer('handler_error', 'EngineError', error.message);
      const isWrong = error instanceof WrongAnswer || error instanceof SluiceError || isTooDeep(error);
      if (!isWrong) throw error;
      return wrongAnswer(this.#path, error);
    }
  }
}

/** It answered 2xx, and said that it failed. */
class EngineError extends Error {}

/** Rows as a JSON array, in pieces. */
const rowsJson = (stream: Uint8Array): readonly Uint8Array[] => {
  const { fields, batches } = openStream(stream);
  const names = fields.map(({ name }) => `${JSON.stringify(name)}:`);
  const pieces: Uint8Array[] = [];
  let text = '[';
  for (const batch of batches) {
    const writers = batch.columns.map(textOf);
    for (let row = 0; row < batch.rows; row += 1) {
      const members = writers.map((write, i) => names[i]! + write(row));
      text += `${row + batch.from === 0 ? '' : ','}{${members.join()}}`;
      if (text.length < PIECE_CHARACTERS) continue;
      pieces.push(Buffer.from(text));
      text = '';
    }
  }
  pieces.push(Buffer.from(`${text}]`));
  return pieces;
};

/** FastAPI names what it misses: `{"detail": [{"type": "missing", "loc": ["body", "instances"]}]}`. */
const misses = ({ status, body }: Reply, member: Member): boolean => {
  if (status !== 422 && status !== 400) return false;
  const detail = memberOf(jsonOf(body.toString('utf8')), 'detail');
  if (!Array.isArray(detail)) return false;
  return detail.some((one: unknown) => {
    const loc = memberOf(one, 'loc');
    return Array.isArray(loc) && loc.length === 2 && loc[1] === member;
  });
};

/** Numbers keep the digits that the output takes. */
const parsed = (body: Buffer, fields: readonly FieldJson[]): unknown => {
  if (!isUtf8(body)) throw new WrongAnswer('it is not valid UTF-8');
  const text = body.toString('utf8');
  try {
    return exactJson(text, exactNumbersFor(fields)).value;
  } catch (error) {
    if (isTooDeep(error)) throw error;
    const hint = /\b(NaN|-?Infinity)\b/.test(text) ? ' (JSON has no NaN and no Infinity: answer null)' : '';
    throw new WrongAnswer(`it is not valid JSON: ${(error as Error).message}${hint}`);
  }
};

const valuesOf = (reply: Reply, fields: readonly FieldJson[]): readonly unknown[] => {
  const value = parsed(reply.body, fields);
  if (Array.isArray(value)) return value;
  if (typeof value !== 'object' || value === null)
    throw new WrongAnswer('it is neither a list nor an object with one');
  for (const name of ANSWERS) {
    const member: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
    if (Array.isArray(member)) return member;
  }
  if (Object.hasOwn(value, 'error') || Object.hasOwn(value, 'detail'))
    throw new EngineError(`the engine answered ${reply.status} with an error: ${errorText(reply.body)}`);
  throw new WrongAnswer(
    `it has the members ${Object.keys(value).slice(0, 20).join(', ') || 'none'}; a list of outputs, or one as ${ANSWERS.join(', ')}, was expected`,
  );
};

/** `{"price": 1}` where one value is wanted: a single output column that kept its name. */
const unwrapped = (value: unknown, { type }: FunctionSpec['output']): unknown => {
  const takesObjects =
    type === 'json' || type === 'any' || (typeof type !== 'string' && ('struct' in type || 'map' in type));
  const isMembers =
    typeof value === 'object' && value !== null && !Array.isArray(value) && !isExactNumber(value);
  if (takesObjects || !isMembers) return value;
  const members = Object.values(value);
  return members.length === 1 ? members[0] : value;
};
