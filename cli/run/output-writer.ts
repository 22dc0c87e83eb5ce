/** Parts to the output in row order, whatever order they are finished in. */
import { Worker } from 'node:worker_threads';

export class OutputWriter {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  /** Paths of finished parts behind one that is not; the bytes lie on disk. */
  readonly #waiting = new Map<number, string>();
  #next = 0;

  constructor(partial: string, output: string, onFailure: (error: unknown) => void) {
    this.#worker = new Worker(new URL('./output-thread.ts', import.meta.url), {
      workerData: { partial, output },
    });
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.on('error', reject);
      this.#worker.on('exit', () => resolve());
    });
    this.#ended.catch(onFailure);
  }

  add(chunk: number, path: string): void {
    this.#waiting.set(chunk, path);
    for (
      let ready = this.#waiting.get(this.#next);
      ready !== undefined;
      ready = this.#waiting.get(this.#next)
    ) {
      this.#waiting.delete(this.#next++);
      this.#worker.postMessage(ready);
    }
  }

  /** Resolves when the output is in its place. All parts have been added. */
  async finish(): Promise<void> {
    this.#worker.postMessage(null);
    await this.#ended;
  }

  async abandon(): Promise<void> {
    await this.#worker.terminate();
  }
}
