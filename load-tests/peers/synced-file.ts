/** A file that is only ever written and synced: what arrives during one sync shares the next. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { SCRATCH } from './peer.ts';

export class SyncedFile {
  readonly #path: string;
  readonly #file: FileHandle;
  #waiting: Buffer[] = [];
  #writing: Promise<void> | null = null;

  private constructor(at: string, file: FileHandle) {
    this.#path = at;
    this.#file = file;
  }

  static async create(name: string): Promise<SyncedFile> {
    const at = path.join(SCRATCH, name);
    return new SyncedFile(at, await open(at, 'w'));
  }

  append(...parts: readonly Buffer[]): void {
    this.#waiting.push(...parts);
    this.#writing ??= this.#write();
  }

  /** All that was appended is on the disk. */
  async synced(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      await this.#file.writev(group);
      await this.#file.datasync();
    }
    this.#writing = null;
  }

  async remove(): Promise<void> {
    await this.#file.close();
    await rm(this.#path);
  }
}
