/**
 * (c) 100,000 rows of 60 characters through a handler that answers 384 floats a row, then 8. The reference is the same handler
 * in a bare loop behind a Unix socket; mosec takes the same batches as Arrow bodies. Sluice stores rows and results.
 */
import { Agent, request } from 'undici';
import { find, interleave, type Options, type Run, type Subject } from '../comparison.ts';
import { cpuSecondsOf } from '../machine/process-tree.ts';
import type { Peer } from '../peers/peer.ts';
import { discard, type SluicePeer, startSluice } from '../peers/sluice.ts';
import { atLeast, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { makeFrames, type SocketLoop, startSocketLoop } from './bulk-frames.ts';
import { startMosec } from './rows-load.ts';

export const title = '100,000 rows of 60 characters to 384 floats and to 8 floats, Arrow in and out';

const ROWS = 100_000;
const BATCH_ROWS = 1000;
/** Rows of one Sluice call, and calls in flight: what `chunked_call` does with `chunk_size=10_000, concurrent_chunks=4`. */
const CALL_ROWS = 10_000;
const CONCURRENT = 4;
const WIDTHS = [384, 8];

const ARROW = 'application/vnd.apache.arrow.stream';
const agent = new Agent({
  connections: CONCURRENT,
  pipelining: 1,
  bodyTimeout: 120_000,
  headersTimeout: 120_000,
});

/** The bytes of the answer, which is held as one Buffer but not decoded, as in the reference. */
const post = async (url: string, body: Buffer, headers: Record<string, string>): Promise<number> => {
  const answer = await request(url, { method: 'POST', body, headers, dispatcher: agent });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  if (answer.statusCode !== 200)
    throw new Error(`POST ${url}: ${answer.statusCode} ${bytes.toString('utf8', 0, 500)}`);
  return bytes.length;
};

const concurrently = async (
  frames: readonly Buffer[],
  send: (frame: Buffer) => Promise<number>,
): Promise<number> => {
  let [next, bytes] = [0, 0];
  const lane = async (): Promise<void> => {
    for (let frame = frames[next++]; frame; frame = frames[next++]) {
      const received = await send(frame); // `bytes += await …` would read `bytes` before the wait
      bytes += received;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT }, lane));
  return bytes;
};

/** Passes over all rows, again and again until the time is over; whole passes only. */
const repeated = (
  name: string,
  pid: number,
  width: number,
  options: Options,
  pass: () => Promise<number>,
): Subject => ({
  name,
  run: async (): Promise<Run> => {
    await pass();
    const [startedAt, cpuBefore] = [performance.now(), cpuSecondsOf(pid)];
    let [rows, short] = [0, 0];
    while (performance.now() - startedAt < options.seconds * 1000) {
      if ((await pass()) < ROWS * width * 4) short += 1;
      rows += ROWS;
    }
    return {
      rows,
      seconds: (performance.now() - startedAt) / 1000,
      cpuSeconds: cpuSecondsOf(pid) - cpuBefore,
      latencies: null,
      failures: short,
      remarks: short > 0 ? [`${short} passes answered fewer bytes than the rows have`] : [],
    };
  },
});

const subjectsOf = (
  peers: { sluice: SluicePeer; mosec: Peer; socket: SocketLoop },
  frames: { calls: Buffer[]; batches: Buffer[] },
  width: number,
  options: Options,
): Subject[] => {
  const calls = `${peers.sluice.url}/v1/functions/vectors_${width}/calls`;
  const ours = { 'content-type': ARROW, accept: ARROW, prefer: 'wait=120' };
  const inference = `http://127.0.0.1:${peers.mosec.port}/inference`;
  return [
    repeated('sluice', peers.sluice.pid, width, options, () =>
      concurrently(frames.calls, (frame) => post(calls, frame, ours)),
    ),
    repeated('socket', peers.socket.pid, width, options, () => peers.socket.pass(frames.batches, width)),
    repeated('mosec', peers.mosec.pid, width, options, () =>
      concurrently(frames.batches, (frame) => post(inference, frame, { 'content-type': ARROW })),
    ),
  ];
};

const figuresOf = (measurements: readonly Measurement[], setting: string): Figure[] => {
  const [ours, socket, mosec] = ['sluice', 'socket', 'mosec'].map((name) =>
    find(measurements, name, setting),
  );
  return [
    atLeast(`sluice / socket, ${setting}`, ours!.rowsPerSecond / socket!.rowsPerSecond, '×', 0.6),
    plain(`mosec / socket, ${setting}`, mosec!.rowsPerSecond / socket!.rowsPerSecond, '×'),
    plain(`sluice / mosec, ${setting}`, ours!.rowsPerSecond / mosec!.rowsPerSecond, '×'),
    plain(`CPU a row, sluice / socket, ${setting}`, ours!.cpuMicrosPerRow / socket!.cpuMicrosPerRow, '×'),
  ];
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  const frames = { calls: makeFrames(ROWS, CALL_ROWS), batches: makeFrames(ROWS, BATCH_ROWS) };
  await using peers = new AsyncDisposableStack();
  const sluice = await startSluice(WIDTHS.map((width) => `vectors_${width}`));
  peers.defer(() => discard(sluice));
  const socket = await startSocketLoop();
  peers.defer(socket.stop);

  const result = { measurements: [] as Measurement[], figures: [] as Figure[], notes: [] as string[] };
  for (const width of WIDTHS) {
    const mosec = await startMosec('mosec_bulk.py', { LOAD_WIDTH: String(width) });
    try {
      const setting = `${width} floats`;
      const subjects = subjectsOf({ sluice, mosec, socket }, frames, width, options);
      const { measurements, remarks } = await interleave(setting, subjects, options);
      result.measurements.push(...measurements);
      result.figures.push(...figuresOf(measurements, setting));
      result.notes.push(...remarks);
    } finally {
      await mosec.stop();
    }
  }
  return result;
};
