/** Worker slots: what workers offered, less the batches that already wait for a slot. */
import type { Offer } from '../ports/queue.ts';
import type { Ledger } from './ledger.ts';
import type { VersionState } from './model.ts';

export const freeSlots = (version: VersionState): { idle: number; prefetch: number } => {
  let idle = 0;
  let prefetch = 0;
  for (const offer of version.offers.values()) {
    idle += offer.idle;
    prefetch += offer.prefetch;
  }
  const ready = version.ready.size;
  return { idle: Math.max(idle - ready, 0), prefetch: Math.max(prefetch - Math.max(ready - idle, 0), 0) };
};

export const offer = (ledger: Ledger, { workerId, versionId, idle, prefetch, until }: Offer): void => {
  const version = ledger.version(versionId);
  if (idle + prefetch === 0) version.offers.delete(workerId);
  else version.offers.set(workerId, { idle, prefetch, until });
  ledger.outbox.slots.add(version);
};

/** A lease takes a slot of its worker: an idle one, else one that prefetches. */
export const takeSlot = (ledger: Ledger, version: VersionState, workerId: string): void => {
  const state = version.offers.get(workerId);
  if (state === undefined) return;
  if (state.idle > 0) state.idle -= 1;
  else if (state.prefetch > 0) state.prefetch -= 1;
  ledger.outbox.slots.add(version);
};

/** Ends the offers of workers that went silent; returns when the next one ends. */
export const endOffers = (ledger: Ledger, now: number): number | null => {
  let next: number | null = null;
  for (const version of ledger.versions.values()) {
    for (const [workerId, { until }] of version.offers) {
      if (until <= now) {
        version.offers.delete(workerId);
        ledger.outbox.slots.add(version);
      } else if (next === null || until < next) {
        next = until;
      }
    }
  }
  return next;
};
