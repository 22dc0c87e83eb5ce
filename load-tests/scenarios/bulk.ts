/**
 * (c) 100,000 rows of 60 characters through a handler that answers 384 floats a row, then 8. The reference is the same handler
 * in a bare loop behind a Unix socket; mosec takes the same batches as Arrow bodies. Sluice stores rows and results, and so does
 * the floor: the same loop, whose frames and answers are written to one file and synced.
 */
import { find, interleave, type Options, type Subject } from '../comparison.ts';
import type { Peer } from '../peers/peer.ts';
import { discard, type SluicePeer, startSluice } from '../peers/sluice.ts';
import { atLeast, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { makeFrames, type SocketLoop, startSocketLoop } from './bulk-frames.ts';
import {
  ARROW,
  BATCH_ROWS,
  CALL_ROWS,
  concurrently,
  passOf,
  post,
  ROWS,
  repeated,
  WIDTHS,
} from './bulk-passes.ts';
import { startMosec } from './rows-load.ts';

export const title = '100,000 rows of 60 characters to 384 floats and to 8 floats, Arrow in and out';

const subjectsOf = (
  peers: { sluice: SluicePeer; mosec: Peer; socket: SocketLoop },
  frames: { calls: Buffer[]; batches: Buffer[] },
  width: number,
  { seconds }: Options,
): Subject[] => {
  const inference = `http://127.0.0.1:${peers.mosec.port}/inference`;
  const passes = {
    sluice: passOf(peers.sluice, frames.calls, width),
    socket: () => peers.socket.pass(frames.batches, width),
    floor: () => peers.socket.storedPass(frames.batches, width),
    mosec: () => concurrently(frames.batches, (frame) => post(inference, frame, { 'content-type': ARROW })),
  };
  return (['sluice', 'socket', 'floor', 'mosec'] as const).map((name) =>
    repeated({
      name,
      parts: { [name]: [peers[name === 'floor' ? 'socket' : name].pid] },
      rows: ROWS,
      width,
      seconds,
      pass: passes[name],
    }),
  );
};

const figuresOf = (measurements: readonly Measurement[], setting: string): Figure[] => {
  const [ours, socket, floor, mosec] = ['sluice', 'socket', 'floor', 'mosec'].map((name) =>
    find(measurements, name, setting),
  );
  return [
    atLeast(`sluice / socket, ${setting}`, ours!.rowsPerSecond / socket!.rowsPerSecond, '×', 0.6),
    plain(`floor / socket, ${setting}`, floor!.rowsPerSecond / socket!.rowsPerSecond, '×'),
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
