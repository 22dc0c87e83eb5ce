/** The retention port on Redis. */
import type { SluiceError } from '../../errors/sluice-error.ts';
import type { Retention } from '../ports/retention.ts';
import type { MemoryGuard } from './health.ts';
import { functionOfId, isFunctionNumber, serialOfId } from './layout.ts';
import { bump, type QueueContext, runScript } from './queue-context.ts';
import type { RedisRegistry } from './registry.ts';

/** Removed functions are looked for this often; they are kept that much longer than said. */
const FORGET_MS = 60_000;

export const makeRetention = (
  context: QueueContext,
  registry: RedisRegistry,
  guard: MemoryGuard,
  /** Why the store cannot serve; null where it can. */
  fault: () => SluiceError | null,
): Retention => {
  let forgotAt = Number.NEGATIVE_INFINITY;
  /** Removed functions have no owner, and their calls end as well. */
  let removed: readonly number[] = [];
  return {
    acknowledge: async ({ now, callId }) => {
      const { link, layout, generation, limits } = context;
      const fn = functionOfId(callId);
      if (!isFunctionNumber(fn)) return false;
      const args = [generation, now, limits.acknowledgedRetentionMs, serialOfId(callId)];
      return (await link.run<number>('acknowledge', [layout.key(fn, 'generation')], args)) === 1;
    },
    sweep: async ({ now, limit }) => {
      if (context.clock.fault() !== null) return false;
      const fns = [...new Set([...context.functions.owned(), ...removed])];
      const sweeping = fns.map((fn) =>
        runScript<[calls: number, more: number]>(context, 'sweep', fn, now, [limit]),
      );
      const swept = await Promise.all(sweeping);
      bump(
        context,
        'calls_swept',
        swept.reduce((sum, [calls]) => sum + calls, 0),
      );
      if (now >= forgotAt + FORGET_MS) {
        forgotAt = now;
        removed = await registry.forget(now);
      }
      if (swept.some(([, more]) => more === 1)) return true;
      // Last, since a bucket that does not answer must hold up nothing of the above.
      const deleting = fns.map((fn) => context.largeBytes.sweep(fn, now));
      return (await Promise.all(deleting)).includes(true);
    },
    usage: async () => {
      const lost = fault() ?? context.clock.fault();
      if (lost !== null) throw lost;
      return guard.measure();
    },
  };
};
