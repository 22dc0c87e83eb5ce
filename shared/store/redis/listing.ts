/** The verb `list`: calls newest first, of one function or of all, by the order of their arrival. */
import type { CallPage, ListQuery } from '../ports/queue.ts';
import { callIdOf, functionOfId, isFunctionNumber, serialOfId } from './layout.ts';
import { readCall, STATUSES, type StoredCall, showCall } from './packing.ts';
import { type QueueContext, runScript } from './queue-context.ts';

/** Buckets of 128 calls that one script looks at: some milliseconds, in which all others wait. */
const SCRIPT_BUCKETS = 32;

type Filter = { readonly status: number; readonly apiKeyId: number; readonly limit: number };
type Start = { readonly below: number; readonly stampBelow: number };

/** One function's calls, newest first, read ahead by pages. */
class Source {
  readonly fn: number;
  readonly #context: QueueContext;
  readonly #filter: Filter;
  #start: Start;
  #found: StoredCall[] = [];
  #isOver = false;

  constructor(context: QueueContext, fn: number, filter: Filter, start: Start) {
    this.#context = context;
    this.fn = fn;
    this.#filter = filter;
    this.#start = start;
  }

  /** The newest that is left. A search that goes far goes in steps, so that others are not kept waiting. */
  async peek(): Promise<StoredCall | undefined> {
    while (this.#found.length === 0 && !this.#isOver) {
      const { below, stampBelow } = this.#start;
      const { status, apiKeyId, limit } = this.#filter;
      const args = [below, stampBelow, status, apiKeyId, limit, SCRIPT_BUCKETS];
      const reply = await runScript<(number | Buffer)[]>(this.#context, 'list', this.fn, 0, args);
      const [next, ...pairs] = reply;
      for (let at = 0; at < pairs.length; at += 2)
        this.#found.push(readCall(this.fn, pairs[at] as number, pairs[at + 1] as Buffer));
      this.#isOver = next === 0;
      this.#start = { below: next as number, stampBelow };
    }
    return this.#found[0];
  }

  take(): void {
    this.#found.shift();
  }
}

/** Where each function goes on below a call: its own by number, the others by the stamp of its arrival. */
const startsBelow = async (
  context: QueueContext,
  before: number | null,
): Promise<(fn: number) => Start | null> => {
  if (before === null) return () => ({ below: 0, stampBelow: 0 });
  const [own, n] = [functionOfId(before), serialOfId(before)];
  if (!isFunctionNumber(own)) return () => null;
  const [, value] = await runScript<[last: number, Buffer | number]>(context, 'call', own, 0, [n]);
  // Its retention may have passed meanwhile: its older neighbour stands nearest.
  const stamp =
    value instanceof Buffer
      ? readCall(own, n, value).stamp
      : (
          await new Source(
            context,
            own,
            { status: -1, apiKeyId: -1, limit: 1 },
            { below: n, stampBelow: 0 },
          ).peek()
        )?.stamp;
  return (fn) => {
    if (fn === own) return n === 0 ? null : { below: n, stampBelow: 0 };
    if (stamp === undefined) return null;
    // Of calls that came in the same microsecond, those of higher functions are shown first.
    return { below: 0, stampBelow: fn < own ? stamp + 1 : stamp };
  };
};

const isAfter = (a: StoredCall, b: StoredCall): boolean =>
  a.stamp !== b.stamp ? a.stamp > b.stamp : a.id > b.id;

/** A page is full or the last one. */
export const list = async (context: QueueContext, query: ListQuery): Promise<CallPage> => {
  const { functionName, status, apiKeyId, before, limit } = query;
  const found = functionName === null ? undefined : await context.functions.anyNumber(functionName);
  const numbers =
    functionName === null ? await context.functions.numbers() : found === undefined ? [] : [found];
  const filter = {
    status: status === null ? -1 : STATUSES.indexOf(status),
    apiKeyId: apiKeyId ?? -1,
    limit,
  };
  const startOf = await startsBelow(context, before);
  const sources = numbers.flatMap((fn) => {
    const start = startOf(fn);
    return start === null ? [] : [new Source(context, fn, filter, start)];
  });
  const calls: StoredCall[] = [];
  while (calls.length < limit) {
    const heads = await Promise.all(sources.map((source) => source.peek()));
    let newest = -1;
    heads.forEach((head, index) => {
      const best = heads[newest];
      if (head !== undefined && (best === undefined || isAfter(head, best))) newest = index;
    });
    if (newest < 0) break;
    calls.push(heads[newest]!);
    sources[newest]!.take();
  }
  const shown = calls.map(async (stored) =>
    showCall(stored, await context.functions.version(stored.versionId)),
  );
  const last = calls.at(-1);
  const next =
    calls.length < limit || last === undefined ? null : callIdOf(functionOfId(last.id), serialOfId(last.id));
  return { calls: await Promise.all(shown), next };
};
