/** What a replica uses, measured between two looks. */
import type { HandlerInstance } from './backend.ts';

export type UsageFigures = {
  /** Of one core, between the last two looks; null until there were two. */
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
};

const UNKNOWN: UsageFigures = { cpuPercent: null, memoryBytes: null };

export class ReplicaUsage {
  figures: UsageFigures = UNKNOWN;
  /** The last look; a handler that was started since begins anew. */
  #last: { readonly handler: HandlerInstance; readonly at: number; readonly cpuMs: number } | null = null;

  async measure(handler: HandlerInstance | null): Promise<void> {
    const usage = await handler?.usage().catch(() => null);
    if (handler === null || !usage) {
      this.figures = UNKNOWN;
      this.#last = null;
      return;
    }
    const at = performance.now();
    const last = this.#last?.handler === handler ? this.#last : null;
    const passedMs = last === null ? 0 : at - last.at;
    const cpuPercent =
      last === null || passedMs <= 0
        ? null
        : Math.round(Math.max(0, (100 * (usage.cpuMs - last.cpuMs)) / passedMs));
    this.#last = { handler, at, cpuMs: usage.cpuMs };
    this.figures = { cpuPercent, memoryBytes: usage.memoryBytes };
  }
}
