/** The coordination port on Redis: each function's slot holds who owns its buffer, the store's slot who may. */
import { randomBytes } from 'node:crypto';
import type { Coordination, Ownership } from '../ports/coordination.ts';
import type { Directory } from './directory.ts';
import type { Events } from './events.ts';
import { type QueueContext, runScript } from './queue-context.ts';
import { runStoreScript } from './store-context.ts';

const FENCE_BYTES = 16;

export const makeCoordination = (
  context: QueueContext,
  directory: Directory,
  events: Events,
): Coordination => ({
  exclusive: false,
  join: async ({ now, memberId, until }) => {
    // One whose clock is off is no member, and judges nobody by its time: what it owns is handed back.
    if (await context.clock.isOff()) {
      await context.link.command('ZREM', context.layout.store('members'), memberId);
      return [];
    }
    const members = await runStoreScript<Buffer[]>(context, 'join', ['members'], [now, memberId, until]);
    return members.map(String).sort();
  },
  leave: async (memberId) => {
    await context.link.command('ZREM', context.layout.store('members'), memberId);
  },
  own: async ({ now, memberId, functionName, leaseMs }): Promise<Ownership | null> => {
    const fn = await directory.anyNumber(functionName);
    if (fn === undefined || (await context.clock.isOff())) return null;
    // Heard before it is asked for, so that nothing is told between the two.
    await events.hear(fn);
    const until = now + leaseMs;
    const fence = randomBytes(FENCE_BYTES).toString('base64url');
    const args = [memberId, until, fence];
    const owned = await runScript<[Buffer, number] | 0>(context, 'own', fn, now, args).catch((error) => {
      events.unhearUnlessOwned(fn);
      throw error;
    });
    if (owned === 0) {
      events.disown(fn);
      return null;
    }
    events.own(fn, owned[1]);
    return { fence: String(owned[0]), until };
  },
  disown: async ({ memberId, functionName }) => {
    const fn = await directory.anyNumber(functionName);
    if (fn === undefined) return;
    events.disown(fn);
    await runScript(context, 'disown', fn, 0, [memberId]);
  },
});
