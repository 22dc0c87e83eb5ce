/**
 * Bulk (c) through Redis, one ingress, one buffer and two worker processes, beside the embedded store, which is one process,
 * beside plain BullMQ with a job for each row on the same Redis and as many worker processes, and beside that Redis alone: what
 * setting and getting the same bytes costs there.
 */
import { tableFromIPC } from 'apache-arrow';
import { find, interleave, type Options, type Subject } from '../comparison.ts';
import { type BullmqPeer, startBullmq } from '../peers/bullmq.ts';
import { type Fleet, startFleet } from '../peers/fleet.ts';
import { type BareRedis, connectBare, REDIS_SETTINGS, type RedisPeer, startRedis } from '../peers/redis.ts';
import { discard, type SluicePeer, startSluice } from '../peers/sluice.ts';
import { atLeast, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { makeFrames } from './bulk-frames.ts';
import { BATCH_ROWS, CALL_ROWS, concurrently, passOf, ROWS, repeated, WIDTHS } from './bulk-passes.ts';

export const title =
  'Bulk rows through Redis and two worker processes, beside the embedded store and BullMQ alone';

const WORKERS = 2;
/** A job a row takes too long for all rows; rates are compared, and these are the first of them. */
const BULLMQ_ROWS = 10_000;
/** Rows of one `addBulk`. */
const BULLMQ_CHUNK = 1000;

const textsOf = (frame: Buffer): string[] => [...tableFromIPC(frame).getChild('text')!] as string[];

const chunksOf = (texts: readonly string[]): string[][] =>
  Array.from({ length: texts.length / BULLMQ_CHUNK }, (_, chunk) =>
    texts.slice(chunk * BULLMQ_CHUNK, (chunk + 1) * BULLMQ_CHUNK),
  );

/** The bytes that the values would have as floats; a value of another length counts for nothing. */
const bytesOf = (values: readonly (readonly number[])[], width: number): number =>
  values.filter((value) => value.length === width).length * width * 4;

type Peers = { embedded: SluicePeer; fleet: Fleet; bullmq: BullmqPeer; redis: RedisPeer; bare: BareRedis };

const subjectsOf = (
  { embedded, fleet, bullmq, redis, bare }: Peers,
  frames: readonly Buffer[],
  width: number,
  { seconds }: Options,
): Subject[] => {
  const rows = chunksOf(textsOf(frames[0]!).slice(0, BULLMQ_ROWS));
  return [
    repeated({
      name: 'redis',
      parts: fleet.parts,
      rows: ROWS,
      width,
      seconds,
      pass: passOf(fleet, frames, width),
    }),
    repeated({
      name: 'embedded',
      parts: { sluice: [embedded.pid] },
      rows: ROWS,
      width,
      seconds,
      pass: passOf(embedded, frames, width),
    }),
    repeated({
      name: 'bullmq',
      parts: { Redis: [redis.pid], worker: bullmq.workers.map(({ pid }) => pid) },
      rows: BULLMQ_ROWS,
      width,
      seconds,
      pass: () => concurrently(rows, async (texts) => bytesOf(await bullmq.run(texts, width), width)),
    }),
    repeated({
      name: 'Redis alone',
      parts: { Redis: [redis.pid] },
      rows: ROWS,
      width,
      seconds,
      pass: () =>
        concurrently(frames, (call) => bare.pass(call, CALL_ROWS / BATCH_ROWS, BATCH_ROWS * width * 4)),
    }),
  ];
};

const figuresOf = (measurements: readonly Measurement[], setting: string): Figure[] => {
  const [redis, embedded, bullmq, bare] = ['redis', 'embedded', 'bullmq', 'Redis alone'].map((name) =>
    find(measurements, name, setting),
  );
  return [
    atLeast(`redis / embedded, ${setting}`, redis!.rowsPerSecond / embedded!.rowsPerSecond, '×', 0.5),
    atLeast(`redis / plain BullMQ, ${setting}`, redis!.rowsPerSecond / bullmq!.rowsPerSecond, '×', 20),
    plain(`redis / Redis alone, ${setting}`, redis!.rowsPerSecond / bare!.rowsPerSecond, '×'),
    plain(`Redis alone / embedded, ${setting}`, bare!.rowsPerSecond / embedded!.rowsPerSecond, '×'),
    plain(`CPU a row, redis / embedded, ${setting}`, redis!.cpuMicrosPerRow / embedded!.cpuMicrosPerRow, '×'),
  ];
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  const frames = makeFrames(ROWS, CALL_ROWS);
  const wanted = WIDTHS.map((width) => `vectors_${width}`);
  await using peers = new AsyncDisposableStack();
  const redis = await startRedis();
  peers.defer(redis.stop);
  const embedded = await startSluice(wanted);
  peers.defer(() => discard(embedded));
  const workers = Array.from({ length: WORKERS }, () => 'worker' as const);
  const fleet = await startFleet(redis, ['ingress', 'buffer', ...workers], wanted);
  peers.defer(fleet.stop);
  const bullmq = await startBullmq(redis, WORKERS);
  peers.defer(bullmq.stop);
  const bare = await connectBare(redis);
  peers.defer(bare.stop);

  const server = `Sluice and BullMQ share one Redis ${redis.version}: ${REDIS_SETTINGS}.`;
  const result = { measurements: [] as Measurement[], figures: [] as Figure[], notes: [server] };
  for (const width of WIDTHS) {
    const setting = `${width} floats`;
    const subjects = subjectsOf({ embedded, fleet, bullmq, redis, bare }, frames, width, options);
    const { measurements, remarks } = await interleave(setting, subjects, options);
    result.measurements.push(...measurements);
    result.figures.push(...figuresOf(measurements, setting));
    result.notes.push(...remarks);
  }
  return result;
};
