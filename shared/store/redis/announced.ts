/**
 * How many jobs a worker asks the dispatcher for. A job that is not there costs the server as much as one that is, and all workers
 * hear of each batch: where each asked for as many as it has slots, there were two asks too many for each batch. So it asks for as
 * many as it heard of since it asked last.
 *
 *   a look, a gap, a job handed back ─► not known: all that fits ─ ask, fewer came ─► known ─ hear, ask ─► known
 *                                           ▲                   └─ ask, all came ─┐
 *                                           └─────────────────────────────────────┘
 */
export class Announced {
  /** Batches heard of and not asked for since, by version; absent: not known, since jobs may be there that nobody told of. */
  readonly #left = new Map<number, number>();
  #isHeard = false;

  /** Whether what becomes ready is heard of from now on. */
  listen(isHeard: boolean): void {
    this.#isHeard = isHeard;
    this.forgetAll();
  }

  hear(versionId: number, batches: number): void {
    const left = this.#left.get(versionId);
    if (left !== undefined) this.#left.set(versionId, left + batches);
  }

  isKnown(versionId: number): boolean {
    return this.#left.has(versionId);
  }

  /** How many jobs to ask for where `most` fit; one at least, since a message may be lost. */
  ask(versionId: number, most: number): number {
    if (!this.#isHeard) return most;
    const left = this.#left.get(versionId);
    const asked = Math.min(most, Math.max(left ?? most, 1));
    this.#left.set(versionId, Math.max((left ?? 0) - asked, 0));
    return asked;
  }

  /** Jobs of this version may be there that nobody told of. */
  forget(versionId: number): void {
    this.#left.delete(versionId);
  }

  forgetAll(): void {
    this.#left.clear();
  }
}
