/** Asks an engine whether it is ready for as long as it lives, and tells when that changes. */
import type { ReadinessProbe } from '../../shared/domain/engine.ts';
import type { EngineAddress } from './engine-connection.ts';
import { askReady, type ProbeAnswer } from './probe.ts';
import { Readiness } from './readiness.ts';

export type ProberOptions = {
  /** What is asked: the probe's own port where it has one. */
  readonly address: EngineAddress;
  readonly probe: ReadinessProbe;
  /** `null`: it is ready. Else why it is not, told again whenever the reason is another one. */
  readonly onChange: (reason: string | null) => void;
};

export class Prober {
  readonly #options: ProberOptions;
  readonly #readiness: Readiness;
  readonly #stopped = new AbortController();
  #told: string | null = '';
  #last = 'was not asked yet';
  #askNow: () => void = () => undefined;

  constructor(options: ProberOptions) {
    this.#options = options;
    this.#readiness = new Readiness(options.probe);
    void this.#live();
  }

  /** What was asked where, and what came back last. */
  get text(): string {
    const { address, probe } = this.#options;
    return `GET ${probe.path} on port ${address.port}: ${this.#last}`;
  }

  /** Asks without waiting for the period's end. */
  askNow(): void {
    this.#askNow();
  }

  stop(): void {
    this.#stopped.abort();
  }

  async #live(): Promise<void> {
    const { address, probe } = this.#options;
    const { signal } = this.#stopped;
    await this.#pause(probe.initialDelayMs);
    while (!signal.aborted) {
      const askedAt = performance.now();
      try {
        this.#note(await askReady({ address, path: probe.path, timeoutMs: probe.timeoutMs }, signal));
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      await this.#pause(Math.max(0, probe.periodMs - (performance.now() - askedAt)));
    }
  }

  #note({ isGood, text }: ProbeAnswer): void {
    this.#last = text;
    this.#readiness.note(isGood);
    const { isReady, isFailing } = this.#readiness;
    if (!isReady && !isFailing) return;
    // What a body says may be another thing each time, which is no news.
    const told = isReady ? null : text.split('"', 1)[0]!;
    if (told === this.#told) return;
    this.#told = told;
    this.#options.onChange(isReady ? null : `not ready: ${this.text}`);
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#stopped;
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.#askNow = () => undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#askNow = done;
      if (signal.aborted) done();
      else signal.addEventListener('abort', done, { once: true });
    });
  }
}
