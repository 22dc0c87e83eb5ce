/**
 * A readiness probe's counting, as Kubernetes means it. Pure.
 *
 *   unready ──successThreshold good answers in a row──► ready
 *      ▲──────failureThreshold bad ones in a row──────────┘
 */
import type { ReadinessProbe } from '../../shared/domain/engine.ts';

export class Readiness {
  readonly #thresholds: Pick<ReadinessProbe, 'successThreshold' | 'failureThreshold'>;
  #isReady = false;
  #lastWasGood: boolean | null = null;
  #alike = 0;

  constructor(thresholds: Pick<ReadinessProbe, 'successThreshold' | 'failureThreshold'>) {
    this.#thresholds = thresholds;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether there have been as many bad answers in a row as it takes. */
  get isFailing(): boolean {
    return this.#lastWasGood === false && this.#alike >= this.#thresholds.failureThreshold;
  }

  note(isGood: boolean): void {
    this.#alike = isGood === this.#lastWasGood ? this.#alike + 1 : 1;
    this.#lastWasGood = isGood;
    if (isGood && this.#alike >= this.#thresholds.successThreshold) this.#isReady = true;
    if (this.isFailing) this.#isReady = false;
  }
}
