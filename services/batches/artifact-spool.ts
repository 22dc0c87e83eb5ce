/**
 * Bytes on their way to an artifact, whose digest is known after the last of them: they lie in a file without a name, which
 * is gone with the process, however that ends.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { storeWhole } from '../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';

/** Lines are short, and each write to a file costs as much as a hundred of them. */
const BUFFERED_BYTES_MAX = 256 * 1024;
const READ_BYTES = 1024 * 1024;

export type Piece = { readonly digest: string; readonly bytes: number };

export class ArtifactSpool {
  readonly #file: FileHandle;
  readonly #hash = createHash('sha256');
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #written = 0;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open(): Promise<ArtifactSpool> {
    const name = path.join(os.tmpdir(), `sluice-spool-${randomUUID()}`);
    const file = await open(name, 'wx+', 0o600);
    await unlink(name);
    return new ArtifactSpool(file);
  }

  get bytes(): number {
    return this.#written + this.#waitingBytes;
  }

  /** @throws SluiceError `disk_full` */
  async write(chunk: Uint8Array): Promise<void> {
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.byteLength;
    if (this.#waitingBytes >= BUFFERED_BYTES_MAX) await this.#flush();
  }

  async #flush(): Promise<void> {
    const chunks = this.#waiting;
    this.#waiting = [];
    for (const chunk of chunks) this.#hash.update(chunk);
    try {
      for (let left = chunks; left.length > 0; left = left.slice(1000)) {
        const some = left.slice(0, 1000);
        const wanted = some.reduce((sum, chunk) => sum + chunk.byteLength, 0);
        const { bytesWritten } = await this.#file.writev(some, this.#written);
        if (bytesWritten !== wanted)
          await this.#file.write(
            Buffer.concat(some).subarray(bytesWritten),
            0,
            null,
            this.#written + bytesWritten,
          );
        this.#written += wanted;
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      throw new SluiceError('disk_full', `There is no room in ${os.tmpdir()} for a file that is on its way.`);
    }
    this.#waitingBytes = 0;
  }

  /** Stores what was written; null when that was nothing. @throws SluiceError of the artifacts */
  async keep(artifacts: Artifacts): Promise<Piece | null> {
    await this.#flush();
    const bytes = this.#written;
    if (bytes === 0) return null;
    const digest = `sha256:${this.#hash.digest('hex')}`;
    await storeWhole(artifacts, { digest, bytes, bodyFrom: (offset) => this.#read(offset) });
    return { digest, bytes };
  }

  async *#read(from: number): AsyncGenerator<Uint8Array> {
    for (let at = from; at < this.#written; ) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, this.#written - at));
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new Error('the spool is shorter than what was written to it');
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
