/** What the verbs of the queue share: the way to the scripts, the limits, and who tells what the registry knows. */
import type { Isolation } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { BlobCache } from '../blob-cache.ts';
import type { Announced } from './announced.ts';
import type { ServerClock } from './clock.ts';
import type { Dispatch, Job } from './dispatch.ts';
import type { LargeBytes } from './large-bytes.ts';
import type { LargeTurns } from './large-turns.ts';
import { batchIdOf, type Layout, versionIdOf } from './layout.ts';
import type { Argument, Link, Reply } from './link.ts';
import type { OutputReads } from './output-reads.ts';

export type QueueLimits = {
  readonly queueRowsMax: number;
  readonly queueBytesMax: number;
  readonly retentionMs: number;
  readonly acknowledgedRetentionMs: number;
};

export type VersionFacts = {
  readonly functionName: string;
  readonly digest: string;
  readonly isolation: Isolation;
};

/** What the queue asks the registry. */
export interface FunctionDirectory {
  /** Versions of removed functions as well, as long as they are kept. */
  version(versionId: number): Promise<VersionFacts | undefined>;
  /** undefined: there is no such function, or it was removed. */
  number(functionName: string): Promise<number | undefined>;
  /** That of a removed function as well, as long as something of it is kept. */
  anyNumber(functionName: string): Promise<number | undefined>;
  /** Every function that may have calls, removed ones as well. */
  numbers(): Promise<readonly number[]>;
  /** Functions whose buffers this process owns. */
  owned(): readonly number[];
}

export type QueueContext = {
  readonly link: Link;
  readonly layout: Layout;
  readonly generation: string;
  /** Read again from time to time: settings of a server change while it runs. */
  durability: string;
  readonly limits: QueueLimits;
  readonly clock: ServerClock;
  readonly functions: FunctionDirectory;
  /** null: workers take what is ready in the order of the store. */
  readonly dispatch: Dispatch | null;
  /** Refuses an admission of so many payload bytes while the server is nearly full, or where it would be then. */
  readonly checkRoom: (bytes: number) => void;
  readonly counters: Record<string, number>;
  readonly largeBytes: LargeBytes;
  readonly largeTurns: LargeTurns;
  /** Outputs by record, payloads by the negative id of their call. */
  readonly blobs: BlobCache;
  readonly outputs: OutputReads;
  /**
   * Versions with batches that were ready at the last two looks, and the newest turn of the first of these: their jobs
   * are with a worker that died before it leased them, or were taken away by hand.
   */
  readonly overdue: Map<number, number>;
  readonly announced: Announced;
  /** Jobs of the leases that this process holds, by batch. */
  readonly jobs: Map<number, { readonly token: string; readonly job: Job }>;
};

export const bump = ({ counters }: QueueContext, name: string, by = 1): void => {
  counters[name] = (counters[name] ?? 0) + by;
};

/** Runs a script of the queue on a function's slot; see scripts/parts/base.lua. */
export const runScript = <T = Reply>(
  context: QueueContext,
  script: string,
  fn: number,
  now: number,
  args: readonly Argument[],
): Promise<T> => {
  const { link, layout, generation, limits } = context;
  bump(context, 'verbs');
  return link.run<T>(script, [layout.key(fn, 'generation')], [generation, now, limits.retentionMs, ...args]);
};

export const noVersion = (versionId: number): SluiceError =>
  new SluiceError('function_not_found', `There is no function version ${versionId}.`);

/**
 * Batches that a script made ready (number, turn, version of each) get their jobs; then the workers are told. What
 * fails here is found again in the outbox by `expired`.
 */
export const dispatchReady = async (
  context: QueueContext,
  fn: number,
  added: readonly number[],
): Promise<void> => {
  if (added.length === 0) return;
  const { link, layout, dispatch } = context;
  const versions = new Map<number, number>();
  const adding: Promise<unknown>[] = [];
  const turns: number[] = [];
  for (let at = 0; at < added.length; at += 3) {
    const [m, turn, v] = [added[at]!, added[at + 1]!, added[at + 2]!];
    versions.set(v, (versions.get(v) ?? 0) + 1);
    turns.push(turn);
    if (dispatch !== null) adding.push(dispatch.add(versionIdOf(fn, v), batchIdOf(fn, m), turn, null));
  }
  // Nobody waits for it: what stands there a little longer is at worst given a job twice, and the second is a repeat.
  if (dispatch !== null)
    void Promise.allSettled(adding).then((ends) => leaveOutbox(context, fn, turns, ends));
  // A worker that hears of a batch before its job is there takes it from the outbox: no order is needed, only wanted.
  const tell = dispatch?.tell;
  if (tell === undefined) await Promise.allSettled(adding);
  const channel = layout.channel(fn, 'ready');
  const publish = (text: string): Promise<unknown> => link.command('PUBLISH', channel, text);
  const telling = [...versions].map(([v, count]) => {
    const text = `${versionIdOf(fn, v)} ${count}`;
    if (tell === undefined) return publish(text);
    // A dispatcher whose own connection has gone added no job either: what stands in the outbox is told of all the same.
    return tell(channel, text).catch(() => (link.isReady ? publish(text) : undefined));
  });
  await Promise.allSettled([...adding, ...telling]);
};

/** Takes the turns that have a job by now out of the outbox: neighbours by one command. */
const leaveOutbox = (
  { link, layout }: QueueContext,
  fn: number,
  turns: readonly number[],
  ends: readonly PromiseSettledResult<unknown>[],
): void => {
  const done = turns.filter((_, index) => ends[index]!.status === 'fulfilled').toSorted((a, b) => a - b);
  for (let at = 0; at < done.length; ) {
    const first = done[at]!;
    let last = first;
    for (at += 1; done[at] === last + 1; at += 1) last = done[at]!;
    link.command('ZREMRANGEBYSCORE', layout.key(fn, 'outbox'), first, last).catch(() => undefined);
  }
};
