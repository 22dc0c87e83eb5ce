import type { Coordination } from './coordination.ts';
import type { Documents } from './documents.ts';
import type { Keys } from './keys.ts';
import type { QueueStore } from './queue.ts';
import type { Registry } from './registry.ts';
import type { Retention } from './retention.ts';
import type { Lineage } from './transfer.ts';

/** What the settle conflicts, commits and so on have come to, for /metrics. Counters only ever rise. */
export type StoreCounters = Readonly<Record<string, number>>;

/** One client of a store. A thread or process holds one; `close` is safe to call twice. */
export interface Store {
  readonly queue: QueueStore;
  readonly registry: Registry;
  readonly documents: Documents;
  readonly keys: Keys;
  readonly retention: Retention;
  readonly coordination: Coordination;
  readonly lineage: Lineage;
  counters(): Promise<StoreCounters>;
  /** Ends when the store has answered, whatever it would refuse; fails where it does not answer. */
  reach(): Promise<void>;
  close(): Promise<void>;
}
