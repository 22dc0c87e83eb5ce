/**
 * One leased batch on its way through a handler: sent ─► begun ─► answered ─► settled, or handed back, or lost.
 * Holds what the host must know of it meanwhile.
 */

import type { Span } from '@opentelemetry/api';
import { rowsOf } from '../shared/domain/slices.ts';
import type { LeasedBatch, LeaseRef } from '../shared/store/ports/queue.ts';
import type { Replica } from './replica.ts';

export class BatchRun {
  readonly leased: LeasedBatch;
  readonly rows: number;
  readonly replica: Replica;
  readonly abort = new AbortController();
  /** null: nobody wants traces. */
  span: Span | null = null;
  /** The rows as the handler got them, where they are sampled afterwards. */
  parts: readonly Uint8Array[] = [];
  /** Wall-clock start of the handler's work; null while the batch waits behind another. */
  startedAt: number | null = null;
  #startedMono = 0;
  timedOut = false;
  /** The handler has answered: the settle or the hand-back under way may end the lease before a heartbeat sees it. */
  answered = false;
  /** Another has the batch now, or nobody wants it: the answer is dropped. */
  dropped = false;
  #endedCalls: Set<number> | null = null;

  constructor(leased: LeasedBatch, replica: Replica) {
    this.leased = leased;
    this.replica = replica;
    this.rows = rowsOf(leased.slices);
  }

  get lease(): LeaseRef {
    return { batchId: this.leased.batchId, token: this.leased.token };
  }

  begin(): void {
    this.startedAt = Date.now();
    this.#startedMono = performance.now();
  }

  /** Handler time so far, in milliseconds. */
  get handlerMs(): number {
    return this.startedAt === null ? 0 : performance.now() - this.#startedMono;
  }

  /** Its answers for this call are late, as far as this worker has heard. */
  hasEnded(callId: number): boolean {
    return this.#endedCalls?.has(callId) ?? false;
  }

  /** Nobody waits for this run's answer any more. */
  drop(): void {
    this.dropped = true;
    this.abort.abort();
  }

  /** Notes calls that are cancelled or expired; true when the batch holds nothing else. */
  ended(calls: ReadonlySet<number>): boolean {
    for (const { callId } of this.leased.slices) {
      if (!calls.has(callId)) continue;
      this.#endedCalls ??= new Set();
      this.#endedCalls.add(callId);
    }
    const gone = this.#endedCalls;
    return gone !== null && this.leased.slices.every(({ callId }) => gone.has(callId));
  }
}
