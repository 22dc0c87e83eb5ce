/** fdatasync beside this thread, one at a time for a file: whoever asks while one runs shares the next one. */
import { fdatasync, fdatasyncSync } from 'node:fs';
import { promisify } from 'node:util';

const syncData = promisify(fdatasync);

/**
 * What the kernel could not write it may have dropped. A full disk that shows only here is no refusal any more: what
 * was answered since may be lost, so the error bears no code of its cause.
 */
export const failedSync = (what: string, cause: Error): Error =>
  Object.assign(new Error(`${what} could not be synced: ${cause.message}`, { cause }), {
    syscall: 'fdatasync',
  });

export class SharedSync {
  readonly #what: string;
  readonly #descriptor: number;
  /** The sync that runs, and the one after it, which those wait for who wrote meanwhile. */
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  /** @param what the file's name in an error */
  constructor(what: string, descriptor: number) {
    this.#what = what;
    this.#descriptor = descriptor;
  }

  /** Resolves after a sync that began when all that was written before this call lay in the file. */
  done(): Promise<void> {
    if (this.#running === null) return this.#start();
    this.#next ??= this.#running.then(() => this.#start());
    return this.#next;
  }

  /** The same at once; the thread waits. */
  now(): void {
    try {
      fdatasyncSync(this.#descriptor);
    } catch (error) {
      throw failedSync(this.#what, error as Error);
    }
  }

  #start(): Promise<void> {
    this.#next = null;
    this.#running = syncData(this.#descriptor).then(
      () => {
        if (this.#next === null) this.#running = null;
      },
      (error: Error) => {
        throw failedSync(this.#what, error);
      },
    );
    return this.#running;
  }
}
