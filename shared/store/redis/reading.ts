/** What readers see: waiting calls, calls, pages of calls, results, and the news of watched calls. */
import { type Call, isFinished, type RowError } from '../../domain/call.ts';
import type {
  CallEvent,
  OpenPage,
  OpenQuery,
  OutputRef,
  ResultPage,
  ResultPart,
  ResultQuery,
  WaitingCall,
} from '../ports/queue.ts';
import {
  batchIdOf,
  functionOfId,
  functionOfVersion,
  isFunctionNumber,
  serialOfId,
  serialOfVersion,
} from './layout.ts';
import {
  PART,
  PART_STATES,
  PART_WIDTH,
  plain,
  readCall,
  type StoredCall,
  showCall,
  unpack,
  waitingOf,
} from './packing.ts';
import { type QueueContext, runScript } from './queue-context.ts';
import { CallLostError } from './replies.ts';

/** Parts in one page of a result. */
const PARTS_MAX = 1000;
/** A whole result up to this size travels with the event that ends its call. */
const EVENT_BYTES_MAX = 2 ** 20;
const EVENT_PARTS_MAX = 64;
/** Reading scripts use no time. */
const NO_TIME = 0;

const readPairs = (fn: number, pairs: readonly (number | Buffer)[]): StoredCall[] => {
  const calls: StoredCall[] = [];
  for (let at = 0; at < pairs.length; at += 2)
    calls.push(readCall(fn, pairs[at] as number, pairs[at + 1] as Buffer));
  return calls;
};

/** Waiting calls of one function after a number; `next` is a number as well. */
export const openFunction = async (
  context: QueueContext,
  fn: number,
  query: { readonly version: number; readonly after: number; readonly limit: number },
): Promise<{ readonly calls: WaitingCall[]; readonly next: number | null }> => {
  const args = [query.after, query.limit, query.version];
  const [next, ...pairs] = await runScript<(number | Buffer)[]>(context, 'open', fn, NO_TIME, args);
  const calls = readPairs(fn, pairs).map(waitingOf);
  return { calls, next: next === 0 ? null : (next as number) };
};

/** A page may be short although `next` is set. */
export const open = async (
  context: QueueContext,
  { versionId, after, limit }: OpenQuery,
): Promise<OpenPage> => {
  const numbers =
    versionId === null
      ? [...(await context.functions.numbers())].sort((a, b) => a - b)
      : [functionOfVersion(versionId)];
  const fn = numbers.find((number) => number >= functionOfId(after));
  if (fn === undefined || !isFunctionNumber(fn)) return { calls: [], next: null };
  const version = versionId === null ? 0 : serialOfVersion(versionId);
  const from = functionOfId(after) === fn ? serialOfId(after) : 0;
  const page = await openFunction(context, fn, { version, after: from, limit });
  if (page.next !== null) return { calls: page.calls, next: batchIdOf(fn, page.next) };
  const following = numbers.find((number) => number > fn);
  return { calls: page.calls, next: following === undefined ? null : batchIdOf(following, 0) };
};

const show = async (context: QueueContext, stored: StoredCall): Promise<Call> =>
  showCall(stored, await context.functions.version(stored.versionId));

/** Why there is no call, as scripts/parts/absent.lua tells it. */
const NEVER = 0;
const LOST = 2;

/** @throws CallLostError */
const absent = (why: number): 'gone' | undefined => {
  if (why === LOST) throw new CallLostError();
  return why === NEVER ? undefined : 'gone';
};

export const call = async (context: QueueContext, callId: number): Promise<Call | 'gone' | undefined> => {
  const [fn, n] = [functionOfId(callId), serialOfId(callId)];
  if (!isFunctionNumber(fn)) return undefined;
  const [, found] = await runScript<[last: number, Buffer | number]>(context, 'call', fn, NO_TIME, [n]);
  return typeof found === 'number' ? absent(found) : show(context, readCall(fn, n, found));
};

type Part = [state: number, from: number, count: number, record: number, place: number];

/** Neighbours of one output are one part; rows without a part become `fill`, up to `rows`. */
const joinParts = (numbers: readonly number[], from: number, rows: number, fill: number): Part[] => {
  const joined: Part[] = [];
  let next = from;
  const add = (part: Part): void => {
    const last = joined.at(-1);
    const place = last === undefined ? -1 : last[0] === PART.ok ? last[4] + last[2] : last[4];
    if (last?.[0] === part[0] && last[3] === part[3] && place === part[4]) last[2] += part[2];
    else joined.push(part);
  };
  for (let at = 0; at < numbers.length; at += PART_WIDTH) {
    const [state, first, count, record, place] = numbers.slice(at, at + PART_WIDTH) as Part;
    if (first > next) add([fill, next, first - next, 0, 0]);
    const skipped = Math.max(from - first, 0);
    add([state, first + skipped, count - skipped, record, state === PART.ok ? place + skipped : place]);
    next = first + count;
  }
  if (next < rows) add([fill, next, rows - next, 0, 0]);
  return joined;
};

type ResultReply = [absent: number] | [value: Buffer, parts: Buffer, more: number];
/** A call, and a page of its parts without their outputs. */
type Found = { readonly stored: StoredCall; readonly parts: readonly Part[]; readonly next: number | null };

const find = async (
  context: QueueContext,
  { callId, from, bytesMax }: ResultQuery,
  partsMax: number,
): Promise<Found | 'gone' | undefined> => {
  const [fn, n] = [functionOfId(callId), serialOfId(callId)];
  if (!isFunctionNumber(fn)) return undefined;
  const args = [n, from, bytesMax, partsMax];
  const reply = await runScript<ResultReply>(context, 'result', fn, NO_TIME, args);
  if (reply.length === 1) return absent(reply[0]);
  const [value, packed, more] = reply;
  const stored = readCall(fn, n, value);
  const numbers = unpack<number[]>(packed);
  const end = more === 1 ? numbers.at(-4)! + numbers.at(-3)! : stored.rows;
  const parts = joinParts(numbers, from, end, stored.fill);
  return { stored, parts, next: more === 1 ? end : null };
};

/** null: an output or an error is not there any more. */
const readParts = async (
  context: QueueContext,
  callId: number,
  { parts }: Found,
): Promise<readonly ResultPart[] | null> => {
  const reader = new RecordReader(context, functionOfId(callId));
  const read = await Promise.all(parts.map((part) => reader.part(part)));
  return read.includes(null) ? null : (read as ResultPart[]);
};

export const result = async (
  context: QueueContext,
  query: ResultQuery,
): Promise<ResultPage | 'gone' | undefined> => {
  const found = await find(context, query, PARTS_MAX);
  if (found === undefined || found === 'gone') return found;
  const parts = await readParts(context, query.callId, found);
  if (parts === null) return 'gone';
  return { call: await show(context, found.stored), parts, next: found.next };
};

/** Reads outputs and errors of a function's records, each once. */
class RecordReader {
  readonly #context: QueueContext;
  readonly #fn: number;
  readonly #outputs = new Map<number, Promise<OutputRef | null>>();
  readonly #errors = new Map<number, Promise<readonly RowError[] | null>>();

  constructor(context: QueueContext, fn: number) {
    this.#context = context;
    this.#fn = fn;
  }

  /** null: its record is not there any more. */
  async part([state, from, count, record, place]: Part): Promise<ResultPart | null> {
    if (state === PART.ok) {
      const output = await this.#output(record);
      return output && { state: 'ok', from, count, output, outputRow: place };
    }
    if (state === PART.failed) {
      const errors = await this.#errorsOf(record);
      if (errors === null) return null;
      const missing = { code: 'internal', message: `the error of batch ${record} is not there` };
      return { state: 'failed', from, count, error: errors[place] ?? missing };
    }
    return { state: PART_STATES[state] as 'cancelled' | 'expired' | 'pending', from, count };
  }

  #output(record: number): Promise<OutputRef | null> {
    let output = this.#outputs.get(record);
    if (output === undefined) {
      output = this.#readOutput(record);
      this.#outputs.set(record, output);
    }
    return output;
  }

  async #readOutput(record: number): Promise<OutputRef | null> {
    const bytes = await this.#context.outputs.read(this.#fn, record);
    return bytes === null ? null : { batchId: batchIdOf(this.#fn, record), bytes: plain(bytes) };
  }

  #errorsOf(record: number): Promise<readonly RowError[] | null> {
    let errors = this.#errors.get(record);
    if (errors === undefined) {
      const { link, layout } = this.#context;
      errors = link
        .command<Buffer | null>('HGET', layout.key(this.#fn, 'output', record), 'e')
        .then((text) => (text === null ? null : (JSON.parse(text.toString()) as RowError[])));
      this.#errors.set(record, errors);
    }
    return errors;
  }
}

/**
 * How a call stands, for its watchers; undefined when it is not there.
 * @throws CallLostError
 */
export const callEvent = async (context: QueueContext, callId: number): Promise<CallEvent | undefined> => {
  const found = await find(context, { callId, from: 0, bytesMax: EVENT_BYTES_MAX }, EVENT_PARTS_MAX);
  if (found === undefined || found === 'gone') return undefined;
  const { counts, status, rows, queueMs, handlerMs } = showCall(found.stored, undefined);
  // Of a call that goes on, or whose result comes in pages, only the counts are news: its outputs are not read for them.
  const isWhole = isFinished(status) && found.next === null;
  const parts = isWhole ? await readParts(context, callId, found) : null;
  return {
    callId,
    status,
    rows,
    counts,
    queueMs,
    handlerMs,
    parts: parts !== null && isSmall(parts) ? parts : null,
  };
};

/** One part comes whatever its size. */
const isSmall = (parts: readonly ResultPart[]): boolean => {
  const outputs = new Map(
    parts.flatMap((part) => (part.state === 'ok' ? [[part.output.batchId, part.output]] : [])),
  );
  let bytes = 0;
  for (const {
    bytes: { byteLength },
  } of outputs.values())
    bytes += byteLength;
  return bytes <= EVENT_BYTES_MAX;
};
