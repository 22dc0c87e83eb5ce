/** What the ports share beside the queue: who tells of lost data, and scripts in both kinds of slots. */
import type { Argument, Reply } from './link.ts';
import type { QueueContext } from './queue-context.ts';

/** Runs a script on the slot that belongs to no function; see scripts/parts/store.lua. */
export const runStoreScript = <T = Reply>(
  { link, layout, generation }: QueueContext,
  script: string,
  keys: readonly Parameters<QueueContext['layout']['store']>[0][],
  args: readonly Argument[],
): Promise<T> => {
  const names = keys.map((key) => layout.store(key));
  return link.run<T>(script, [layout.store('generation'), ...names], [generation, ...args]);
};

/** A HGETALL as Lua returns it. */
export const pairsOf = (list: readonly (Buffer | number)[]): Map<string, Buffer> => {
  const map = new Map<string, Buffer>();
  for (let at = 0; at < list.length; at += 2) map.set(String(list[at]), list[at + 1] as Buffer);
  return map;
};
