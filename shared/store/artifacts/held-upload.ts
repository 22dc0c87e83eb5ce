/** A partial upload that this process alone writes. It ends in one of three: it rests for the next piece, is published, or dropped. */
import { type FileHandle, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SIGN_MS } from './owner.ts';
import { codeOf, syncDirectory } from './plain-file.ts';

/** Another owner took it over, since this one was silent. */
export class LostUpload extends Error {}

export class HeldUpload {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #total: number;
  readonly #signing: NodeJS.Timeout;
  #receivedBytes: number;

  constructor(file: FileHandle, path: string, total: number, receivedBytes: number) {
    this.#file = file;
    this.#path = path;
    this.#total = total;
    this.#receivedBytes = receivedBytes;
    this.#signing = setInterval(() => void this.sign(), SIGN_MS).unref();
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Says that its owner is there. */
  async sign(): Promise<void> {
    const now = new Date();
    await this.#file.utimes(now, now).catch(() => undefined);
  }

  /** Adds at the end. What was written before a failure counts as received. */
  async write(chunks: readonly Uint8Array[]): Promise<void> {
    let left = chunks;
    while (left.length > 0) {
      const { bytesWritten } = await this.#file.writev(left, this.#receivedBytes);
      this.#receivedBytes += bytesWritten;
      left = after(left, bytesWritten);
    }
  }

  /** All bytes from the beginning, as they lie on the disk. */
  async *content(): AsyncIterable<Uint8Array> {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    for (let at = 0; at < this.#receivedBytes; ) {
      const { bytesRead } = await this.#file.read(buffer, 0, READ_BYTES, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  /**
   * Makes what was received durable and lets go of it.
   *
   * @returns where it rests
   * @throws LostUpload; a disk's error, after which nothing is kept, since nobody knows what the disk has
   */
  async rest(): Promise<string> {
    const path = join(dirname(this.#path), `${this.#total}.part`);
    // A write that failed in its middle may have left more than it said.
    await this.#settle(async () => {
      await this.#file.truncate(this.#receivedBytes);
      await this.#file.datasync();
    });
    await this.#rename(path);
    return path;
  }

  /** It is whole, and its bytes are what they should be. @throws as `rest` */
  async publish(path: string): Promise<void> {
    await this.#settle(async () => {
      await this.#file.truncate(this.#receivedBytes);
      await this.#file.chmod(0o444);
      await this.sign();
      await this.#file.sync();
    });
    await this.#rename(path);
    for (const directory of [dirname(path), dirname(dirname(path)), dirname(dirname(dirname(path)))])
      await syncDirectory(directory);
  }

  async drop(): Promise<void> {
    clearInterval(this.#signing);
    await this.#file.close().catch(() => undefined);
    await rm(this.#path, { force: true });
  }

  async #settle(work: () => Promise<void>): Promise<void> {
    clearInterval(this.#signing);
    try {
      await work();
      await this.#file.close();
    } catch (error) {
      await this.drop();
      throw error;
    }
  }

  async #rename(path: string): Promise<void> {
    try {
      await rename(this.#path, path);
    } catch (error) {
      throw codeOf(error) === 'ENOENT' ? new LostUpload() : error;
    }
  }
}

const READ_BYTES = 2 ** 20;

/** What is left of chunks after so many bytes. */
const after = (chunks: readonly Uint8Array[], bytes: number): Uint8Array[] => {
  const left: Uint8Array[] = [];
  let skip = bytes;
  for (const chunk of chunks) {
    if (skip >= chunk.byteLength) skip -= chunk.byteLength;
    else {
      left.push(skip === 0 ? chunk : chunk.subarray(skip));
      skip = 0;
    }
  }
  return left;
};
