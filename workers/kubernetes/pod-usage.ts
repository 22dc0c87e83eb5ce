/** CPU and memory of a pod by metrics.k8s.io, which measures a rate; what a replica is asked for is what it has used. */
import type { PodMetric } from '@kubernetes/client-node';
import { HANDLER } from './pod-spec.ts';

/** Quantities of Kubernetes: `12n`, `250m`, `1`, `64Mi`, `1G`. */
const SUFFIXES: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** null: it is none. */
export const quantityOf = (text: string): number | null => {
  const [, digits, suffix] = /^(\d+(?:\.\d+)?(?:e\d+)?)([a-zA-Z]*)$/.exec(text) ?? [];
  const factor = SUFFIXES[suffix ?? ' '];
  return digits === undefined || factor === undefined ? null : Number(digits) * factor;
};

export class PodUsage {
  readonly #ask: () => Promise<PodMetric | null>;
  readonly #now: () => number;
  #cpuMs = 0;
  #askedAt: number;

  /** `now` in milliseconds, monotonic. */
  constructor(ask: () => Promise<PodMetric | null>, now: () => number = () => performance.now()) {
    this.#ask = ask;
    this.#now = now;
    this.#askedAt = now();
  }

  /** The rate between two looks is taken for that of the time between them: an estimate, as the rate itself is one. */
  async read(): Promise<{ readonly cpuMs: number; readonly memoryBytes: number } | null> {
    const found = await this.#ask();
    const usage = found?.containers?.find(({ name }) => name === HANDLER)?.usage;
    const cores = quantityOf(usage?.cpu ?? '');
    const memoryBytes = quantityOf(usage?.memory ?? '');
    if (cores === null || memoryBytes === null) return null;
    const now = this.#now();
    this.#cpuMs += cores * (now - this.#askedAt);
    this.#askedAt = now;
    return { cpuMs: Math.round(this.#cpuMs), memoryBytes: Math.round(memoryBytes) };
  }
}
