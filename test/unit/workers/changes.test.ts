/** What a worker host reads of the functions when they change. */
import { expect, it } from 'vitest';
import { plainScaling } from '../../../shared/domain/scaling.ts';
import type { Registry } from '../../../shared/store/ports/registry.ts';
import { nodeSpec, Rig } from './rig.ts';

const scaling = plainScaling({ min: 0, max: 1 });
const spec = (name: string) => nodeSpec('export const run = ({ text }) => text;', { name });

/** A rig whose readings are seen; `hold` keeps the next one from being answered until it is called off. */
const readingRig = async () => {
  const read: string[] = [];
  let isHeld: Promise<void> | undefined;
  let begun = Promise.withResolvers<void>();
  let heard: (() => Promise<unknown>) | undefined;
  const registry = (real: Registry): Partial<Registry> => {
    // Events come in order with the answers on the same connection.
    heard = () => real.function('none');
    const seen = async <T>(name: string, answer: () => Promise<T>): Promise<T> => {
      read.push(name);
      begun.resolve();
      await isHeld;
      return answer();
    };
    return {
      functions: () => seen('all', () => real.functions()),
      function: (name) => seen(name, () => real.function(name)),
    };
  };
  const rig = await Rig.open({ registry });
  const hold = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    [isHeld, begun] = [promise, Promise.withResolvers<void>()];
    return { begun: begun.promise, end: resolve };
  };
  return { rig, read, hold, heard: () => heard!() };
};

it('is the function that changed, and once what changed while it read', async () => {
  const { rig, read, hold, heard } = await readingRig();
  expect(read).toEqual(['all']);
  const held = hold();
  for (const name of ['f', 'g', 'h']) await rig.deploy(spec(name), { scaling });
  await held.begun;
  const change = (name: string) =>
    rig.store.registry.update({ now: Date.now(), name, update: { batching: { sizeRows: 3 } } });
  for (const name of ['g', 'f', 'g', 'g', 'f']) await change(name);
  await rig.store.registry.remove('h');
  await heard();
  held.end();
  expect((await rig.run((await rig.store.registry.function('g'))!, ['a'])).values).toEqual(['a']);
  await rig.workers.stop();
  expect(read.slice(0, 2)).toEqual(['all', 'f']);
  expect(read.slice(2).toSorted()).toEqual(['f', 'g', 'h']);
});

it('is all of them after a reading that failed', async () => {
  let failures = 1;
  const read: string[] = [];
  const registry = (real: Registry): Partial<Registry> => ({
    functions: () => {
      read.push('all');
      return real.functions();
    },
    function: (name) => {
      read.push(name);
      failures -= 1;
      return failures < 0 ? real.function(name) : Promise.reject(new Error('no answer'));
    },
  });
  const rig = await Rig.open({ registry });
  const missed = await rig.deploy(spec('f'), { scaling });
  await rig.deploy(spec('g'), { scaling });
  expect((await rig.run(missed, ['a'])).values).toEqual(['a']);
  expect(read).toEqual(['all', 'f', 'all']);
});
