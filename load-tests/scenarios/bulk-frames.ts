/** Arrow streams for the bulk scenario, and the reference client: a plain loop over a Unix socket. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { PYTHON, SCRATCH } from '../peers/peer.ts';
import { SyncedFile } from '../peers/synced-file.ts';

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
  /** Sends every frame and waits for its answer; answers the bytes received. */
  readonly pass: (frames: readonly Buffer[], width: number) => Promise<number>;
  /** As well, and ends when every frame and its answer are on the disk. */
  readonly storedPass: (frames: readonly Buffer[], width: number) => Promise<number>;
  readonly stop: () => Promise<void>;
};

/** One frame there, its answer back as one Buffer, the next: what anyone would write first. */
const exchange = (socket: net.Socket, frame: Buffer, width: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let [received, wanted] = [0, Number.POSITIVE_INFINITY];
    const read = (chunk: Buffer): void => {
      parts.push(chunk);
      received += chunk.length;
      if (wanted === Number.POSITIVE_INFINITY && received >= 4)
        wanted = 4 + Buffer.concat(parts).readUInt32LE(0);
      if (received < wanted) return;
      socket.off('data', read);
      socket.off('close', fail);
      resolve(Buffer.concat(parts));
    };
    const fail = (): void => reject(new Error('The socket loop closed its connection.'));
    socket.on('data', read);
    socket.once('close', fail);
    const head = Buffer.allocUnsafe(8);
    head.writeUInt32LE(frame.length, 0);
    head.writeUInt32LE(width, 4);
    socket.write(head);
    socket.write(frame);
  });

type Keep = (frame: Buffer, answer: Buffer) => void;

const passFrames = async (
  socket: net.Socket,
  frames: readonly Buffer[],
  width: number,
  keep: Keep = () => undefined,
): Promise<number> => {
  let bytes = 0;
  for (const frame of frames) {
    const answer = await exchange(socket, frame, width);
    keep(frame, answer);
    bytes += answer.length;
  }
  return bytes;
};

const storeFrames = async (
  socket: net.Socket,
  file: SyncedFile,
  frames: readonly Buffer[],
  width: number,
): Promise<number> => {
  const bytes = await passFrames(socket, frames, width, (...both) => file.append(...both));
  await file.synced();
  return bytes;
};

export const startSocketLoop = async (): Promise<SocketLoop> => {
  mkdirSync(SCRATCH, { recursive: true });
  const at = path.join(SCRATCH, `loop-${process.pid}.sock`);
  rmSync(at, { force: true });
  const child = spawn(PYTHON, [peerScript('socket_loop.py'), at], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const socket = net.connect(at);
  await once(socket, 'connect');
  // It keeps what it stored, as Sluice does: a disk may take new bytes more slowly than the same ones again.
  const file = await SyncedFile.create('floor.frames');
  return {
    pid: child.pid!,
    pass: (frames, width) => passFrames(socket, frames, width),
    storedPass: (frames, width) => storeFrames(socket, file, frames, width),
    stop: async () => {
      const ended = once(child, 'exit');
      socket.destroy();
      await ended;
      await file.remove();
      rmSync(at, { force: true });
    },
  };
};
