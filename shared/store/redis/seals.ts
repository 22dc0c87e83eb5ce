/**
 * The verb `seal`: what a buffer seals of a version in one tick travels in one script, which makes each its batch. A large call
 * is due as several batches at once, and a script for each would read and write the call, the counters and the slots again.
 */
import type { FreeSlots, Sealed, SealRequest } from '../ports/queue.ts';
import { packSlices } from './batch-packing.ts';
import { versionOf } from './batching.ts';
import { batchIdOf } from './layout.ts';
import { pack, REASONS, unpack } from './packing.ts';
import { dispatchReady, type QueueContext, runScript } from './queue-context.ts';
import { TurnGroups } from './turn-groups.ts';

/** Slices in one script, unless one seal has more: some milliseconds, in which all others wait. */
const SCRIPT_SLICES_MAX = 2000;

type SealReply = [
  fenced: number,
  idle: number,
  prefetch: number,
  order: number,
  added: number[],
  sealed: [batch: number, refused: number[]][],
];
type Asked = {
  readonly request: SealRequest;
  readonly resolve: (sealed: Sealed) => void;
  readonly reject: (error: unknown) => void;
};
type Place = { readonly versionId: number; readonly fence: string };

export class Seals {
  readonly #context: QueueContext;
  readonly #onSlots: (free: FreeSlots, order: number) => void;
  readonly #groups: TurnGroups<Place, Asked>;

  /** @param onSlots told before the answers: a buffer counts its seals in flight against the slots that it heard of last */
  constructor(context: QueueContext, onSlots: (free: FreeSlots, order: number) => void) {
    this.#context = context;
    this.#onSlots = onSlots;
    this.#groups = new TurnGroups(
      ({ request }) => request.slices.length / SCRIPT_SLICES_MAX,
      (place, asked) => void this.#send(place, asked),
    );
  }

  seal(request: SealRequest): Promise<Sealed> {
    return new Promise((resolve, reject) => {
      const { versionId, fence } = request;
      this.#groups.add(`${versionId} ${fence}`, { versionId, fence }, { request, resolve, reject });
    });
  }

  flush(): void {
    this.#groups.flush();
  }

  async #send({ versionId, fence }: Place, asked: readonly Asked[]): Promise<void> {
    try {
      const { fn, v } = versionOf(versionId);
      const now = Math.max(...asked.map(({ request }) => request.now));
      const wanted = asked.map(({ request: { reason, slices } }) => [
        REASONS.indexOf(reason),
        packSlices(fn, slices, 0),
      ]);
      const args = [v, fence, pack(wanted)];
      const reply = unpack<SealReply>(await runScript<Buffer>(this.#context, 'seal', fn, now, args));
      const [fenced, idle, prefetch, order, added, sealed] = reply;
      const free = { versionId, idle, prefetch };
      if (order > 0) this.#onSlots(free, order);
      await dispatchReady(this.#context, fn, added);
      asked.forEach(({ request, resolve }, index) => {
        const [batch, refused] = sealed[index] ?? [0, []];
        resolve({
          fenced: fenced === 1,
          batchId: batch === 0 ? null : batchIdOf(fn, batch),
          refused: refused.map((place) => request.slices[place]!),
          free,
        });
      });
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }
}
