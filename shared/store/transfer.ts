/**
 * The steps of a migration, whatever the two stores are. Memory holds one chunk of calls and one output at a time.
 * Cut off anywhere, it is begun again with the same two places and goes on where the target is.
 */
import { SluiceError } from '../errors/sluice-error.ts';
import type {
  TransferBatch,
  TransferCall,
  TransferCounts,
  TransferHead,
  TransferSource,
  TransferTarget,
} from './ports/transfer.ts';

/** One step of the target: large enough that its commit costs little, small enough that memory does not matter. */
const CHUNK_CALLS = 500;
const CHUNK_BYTES = 16 * 2 ** 20;

export type TransferProgress = { readonly calls: number; readonly batches: number };
export type TransferReport = {
  /** null: an earlier run had moved everything. */
  readonly counts: TransferCounts | null;
  /** Calls and batches that this run moved; the others were there from a run that was cut off. */
  readonly moved: TransferProgress;
};

async function* chunks<T>(items: AsyncIterable<T>, bytesOf: (item: T) => number): AsyncGenerator<T[]> {
  let [chunk, bytes]: [T[], number] = [[], 0];
  for await (const item of items) {
    chunk.push(item);
    bytes += bytesOf(item);
    if (chunk.length < CHUNK_CALLS && bytes < CHUNK_BYTES) continue;
    yield chunk;
    [chunk, bytes] = [[], 0];
  }
  if (chunk.length > 0) yield chunk;
}

const callBytes = ({ payload, bytes }: TransferCall): number => (payload === null ? 0 : bytes);
const batchBytes = ({ slices }: TransferBatch): number => slices.length * 64;

/** What one side has and the other has not, in words; '' when they agree. */
const differences = (source: TransferCounts, target: TransferCounts): string => {
  const flat = ({ rows, ...counts }: TransferCounts): [string, number][] => [
    ...Object.entries(counts),
    ...Object.entries(rows).map(([name, n]): [string, number] => [`${name} rows`, n]),
  ];
  const there = new Map(flat(target));
  return flat(source)
    .filter(([name, n]) => there.get(name) !== n)
    .map(([name, n]) => `${name}: ${n} left, ${there.get(name)} came`)
    .join('; ');
};

const bring = async (
  source: TransferSource,
  target: TransferTarget,
  head: TransferHead,
  onProgress: (progress: TransferProgress) => void,
): Promise<TransferReport['moved'] & { readonly isFinished: boolean }> => {
  const position = await target.arrive(head);
  const moved = { calls: 0, batches: 0 };
  if (position.isFinished) return { ...moved, isFinished: true };
  if (position.batchId === null) {
    for await (const calls of chunks(source.calls(position.callId), callBytes)) {
      await target.addCalls(calls, (id) => source.output(id));
      moved.calls += calls.length;
      onProgress(moved);
    }
  }
  for await (const batches of chunks(source.batches(position.batchId), batchBytes)) {
    await target.addBatches(batches);
    moved.batches += batches.length;
    onProgress(moved);
  }
  for await (const some of chunks(source.documents(), ({ bytes }) => bytes.byteLength))
    await target.addDocuments(some);
  for await (const ids of chunks(source.former(), () => 0)) await target.addFormer(ids);
  return { ...moved, isFinished: false };
};

/** @throws SluiceError when a side is being served, is taken, or the counts differ (then the target stays closed) */
export const transfer = async (
  source: TransferSource,
  target: TransferTarget,
  now: number,
  onProgress: (progress: TransferProgress) => void = () => undefined,
): Promise<TransferReport> => {
  const head = await source.begin({ now, to: target.place });
  if (head === null) return { counts: null, moved: { calls: 0, batches: 0 } };
  const { isFinished, ...moved } = await bring(source, target, head, onProgress);
  const counts = await source.counts();
  if (!isFinished) {
    const differing = differences(counts, await target.finish());
    if (differing !== '') {
      throw new SluiceError(
        'internal',
        `This is a bug in Sluice, please report it: the two sides do not agree (${differing}). ${target.place} is not opened, and ${source.place} still holds everything.`,
        { fix: 'Give the source back with --abandon.' },
      );
    }
    await target.open();
  }
  await source.leave();
  return { counts, moved };
};

/** Gives a migration up that has not finished. @throws SluiceError when the target has everything already */
export const abandonTransfer = async (
  source: TransferSource,
  target: TransferTarget,
  now: number,
): Promise<boolean> => {
  const head = await source.begin({ now, to: target.place });
  if (head === null || (await target.hasArrived(head.id))) {
    throw new SluiceError(
      'internal',
      `Everything has moved from ${source.place} to ${target.place} already; both would run the same calls.`,
      { fix: 'Serve the target, or migrate back.' },
    );
  }
  return source.abandon();
};
