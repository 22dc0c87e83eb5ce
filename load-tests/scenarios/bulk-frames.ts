/** Arrow streams for the bulk scenario, and the reference client: a plain loop over a Unix socket. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { PYTHON, SCRATCH } from '../peers/peer.ts';

const peerScript = (name: string): string => new URL(`../peers/${name}`, import.meta.url).pathname;

/** Arrow streams of `batchRows` rows each, written by pyarrow. */
export const makeFrames = (rows: number, batchRows: number): Buffer[] => {
  mkdirSync(SCRATCH, { recursive: true });
  const file = path.join(SCRATCH, `rows-${rows}-${batchRows}.frames`);
  execFileSync(PYTHON, [
    peerScript('rows.py'),
    '--rows',
    String(rows),
    '--batch-rows',
    String(batchRows),
    '--frames',
    file,
  ]);
  const bytes = readFileSync(file);
  rmSync(file);
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    frames.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
};

export type SocketLoop = {
  readonly pid: number;
  /** Sends every frame, two in flight as a worker with one prefetched batch has; answers the bytes received. */
  readonly pass: (frames: readonly Buffer[], width: number) => Promise<number>;
  readonly stop: () => Promise<void>;
};

const FRAMES_IN_FLIGHT = 2;

const passFrames = (socket: net.Socket, frames: readonly Buffer[], width: number): Promise<number> =>
  new Promise((resolve, reject) => {
    let [sent, answered, received] = [0, 0, 0];
    /** Bytes of the answer's length that have come (0 to 4), and what is left of its body. */
    let [lengthBytes, length, left] = [0, 0, 0];
    const send = (): void => {
      const frame = frames[sent++];
      if (!frame) return;
      const head = Buffer.allocUnsafe(8);
      head.writeUInt32LE(frame.length, 0);
      head.writeUInt32LE(width, 4);
      socket.write(head);
      socket.write(frame);
    };
    const read = (chunk: Buffer): void => {
      received += chunk.length;
      for (let at = 0; at < chunk.length; ) {
        if (lengthBytes < 4) {
          length = (length | (chunk[at++]! << (8 * lengthBytes++))) >>> 0;
          if (lengthBytes === 4) left = length;
          continue;
        }
        const taken = Math.min(left, chunk.length - at);
        left -= taken;
        at += taken;
        if (left > 0) return;
        [lengthBytes, length] = [0, 0];
        answered += 1;
        send();
      }
      if (answered < frames.length) return;
      socket.off('data', read);
      socket.off('close', fail);
      resolve(received);
    };
    const fail = (): void => reject(new Error('The socket loop closed its connection.'));
    socket.on('data', read);
    socket.once('close', fail);
    for (let i = 0; i < FRAMES_IN_FLIGHT; i++) send();
  });

export const startSocketLoop = async (): Promise<SocketLoop> => {
  mkdirSync(SCRATCH, { recursive: true });
  const at = path.join(SCRATCH, `loop-${process.pid}.sock`);
  rmSync(at, { force: true });
  const child = spawn(PYTHON, [peerScript('socket_loop.py'), at], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const socket = net.connect(at);
  await once(socket, 'connect');
  return {
    pid: child.pid!,
    pass: (frames, width) => passFrames(socket, frames, width),
    stop: async () => {
      const ended = once(child, 'exit');
      socket.destroy();
      await ended;
      rmSync(at, { force: true });
    },
  };
};
