import type { Service } from './service.ts';

export type RepeatedWorkOptions = {
  readonly everyMs: number;
  readonly work: () => Promise<unknown>;
  readonly onError: (error: unknown) => void;
};

/** Work that is done again and again, one round at a time: a time that comes while a round runs is left out. */
export class RepeatedWork implements Service {
  readonly #options: RepeatedWorkOptions;
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<void> | null = null;
  #isStopped = false;

  constructor(options: RepeatedWorkOptions) {
    this.#options = options;
  }

  /** A round that takes long looks at it, to end early. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  async start(): Promise<void> {
    if (!this.#isStopped) this.#timer ??= setInterval(() => this.look(), this.#options.everyMs);
  }

  /** Resolves when the round that runs is over. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#round;
  }

  /** A round now, unless one runs. */
  look(): void {
    if (this.#round !== null || this.#isStopped) return;
    const { work, onError } = this.#options;
    this.#round = work()
      .then(() => undefined, onError)
      .finally(() => {
        this.#round = null;
      });
  }
}
