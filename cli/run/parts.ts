/**
 * OUTPUT.parts: what a run has finished, so that the same run goes on after it was cut off. A part's name is its chunk
 * number and the digest of all that it follows from: the function's version, the columns, the rows.
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CommandError } from '../failure.ts';

/** The end-of-stream marker: a part that a power cut has torn does not end with it. */
const END = Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/** Names of what a run writes into its folder; nothing else is deleted. */
const OWN_NAME = /^(run-id|lock|output\.partial|\d{9,}-\w+\.arrows(\.partial)?)$/;

/** Runs that begin and end meanwhile; a folder that cannot be made fails each time. */
const TAKE_RETRIES = 100;
/** A lock is empty between two system calls of whoever takes it; an older one was torn by a power cut. */
const LOCK_EMPTY_MS = 1000;

/** What tells a process from a later one with its number; null when it is gone, or dead and not yet collected. */
const processMark = (pid: number): string | null => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? null : `${pid} ${rest[18]}`;
  } catch {
    if (existsSync('/proc/self/stat')) return null;
  }
  try {
    process.kill(pid, 0);
    return `${pid}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? `${pid}` : null;
  }
};

export class Parts {
  readonly directory: string;
  /** Names this run in idempotency keys: the calls of a run that was killed are attached to, not made again. */
  readonly runId: string;
  readonly #done: Set<string>;

  private constructor(directory: string, runId: string, done: Set<string>) {
    this.directory = directory;
    this.runId = runId;
    this.#done = done;
  }

  /** @throws CommandError while another run writes the same output, or where something else has the name */
  static open(output: string): Parts {
    const directory = `${output}.parts`;
    Parts.#take(directory, output);
    const idFile = path.join(directory, 'run-id');
    if (!existsSync(idFile)) writeFileSync(idFile, randomUUID());
    const done = new Set(readdirSync(directory).filter((name) => name.endsWith('.arrows')));
    return new Parts(directory, readFileSync(idFile, 'utf8').trim(), done);
  }

  /** A run that ends takes lock and folder away between any two steps of this one, and another may be quicker. */
  static #take(directory: string, output: string): void {
    for (let left = TAKE_RETRIES; ; left--) {
      try {
        Parts.#makeDirectory(directory);
        Parts.#lock(directory, output);
        return;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (left === 0 || (code !== 'ENOENT' && code !== 'EEXIST')) throw error;
      }
    }
  }

  static #makeDirectory(directory: string): void {
    const stats = statSync(directory, { throwIfNoEntry: false });
    if (stats === undefined) {
      mkdirSync(directory, { recursive: true });
      return;
    }
    const names = stats.isDirectory() ? readdirSync(directory) : [''];
    if (!names.includes('run-id') && !names.every((name) => OWN_NAME.test(name)))
      throw new CommandError(
        `${directory} is there, and not of a run; move it away, or give another --output.`,
      );
  }

  static #lock(directory: string, output: string): void {
    const file = path.join(directory, 'lock');
    const stats = statSync(file, { throwIfNoEntry: false });
    if (stats !== undefined) {
      const holder = readFileSync(file, 'utf8');
      const pid = Number(holder.split(' ')[0]);
      const isHeld = pid > 0 && pid !== process.pid && processMark(pid) === holder;
      if (isHeld || (holder === '' && Date.now() - stats.mtimeMs < LOCK_EMPTY_MS))
        throw new CommandError(
          `${isHeld ? `Process ${pid}` : 'Another run'} is writing ${output} already; wait for it, or give another --output (if no such run is there, delete ${file}).`,
        );
      rmSync(file, { force: true });
    }
    writeFileSync(file, processMark(process.pid) ?? String(process.pid), { flag: 'wx' });
  }

  name(chunk: number, digest: string): string {
    return `${String(chunk).padStart(9, '0')}-${digest}.arrows`;
  }

  /** Whether the part is there and whole. */
  async has(name: string): Promise<boolean> {
    if (!this.#done.has(name)) return false;
    const handle = await open(this.path(name));
    try {
      const { size } = await handle.stat();
      const tail = Buffer.alloc(END.length);
      await handle.read(tail, 0, END.length, Math.max(0, size - END.length));
      return tail.equals(END);
    } finally {
      await handle.close();
    }
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    const partial = `${this.path(name)}.partial`;
    await writeFile(partial, bytes);
    await rename(partial, this.path(name));
  }

  read(name: string): Promise<Uint8Array> {
    return readFile(this.path(name));
  }

  path(name: string): string {
    return path.join(this.directory, name);
  }

  /** Lets another run in; the parts stay, and a folder without any goes. */
  async close(): Promise<void> {
    const isEmpty = !readdirSync(this.directory).some((name) => name.endsWith('.arrows'));
    if (isEmpty) await this.remove();
    else rmSync(this.path('lock'), { force: true });
  }

  /** What somebody else has put there meanwhile stays, and the folder with it, which another run may take away first. */
  async remove(): Promise<void> {
    const own = (await readdir(this.directory)).filter((name) => OWN_NAME.test(name));
    // The lock goes last: a run that begins meanwhile would lose its parts.
    for (const name of own) if (name !== 'lock') await rm(this.path(name), { force: true });
    rmSync(this.path('lock'), { force: true });
    await rmdir(this.directory).catch((error: NodeJS.ErrnoException) => {
      if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(error.code ?? '')) throw error;
    });
  }
}

export const digestOf = (...pieces: readonly (string | Uint8Array)[]): string => {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(`${piece.length}:`).update(piece);
  return hash.digest('hex').slice(0, 24);
};
