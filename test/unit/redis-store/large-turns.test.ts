import { expect, it } from 'vitest';
import { LargeTurns } from '../../../shared/store/redis/large-turns.ts';

const MIB = 2 ** 20;

/** Writes that end when they are told to, and the order in which they began. */
const makeWrites = () => {
  let isAway = false;
  const turns = new LargeTurns(() => isAway);
  const leave = (): void => {
    isAway = true;
  };
  const begun: string[] = [];
  const write = (name: string, bytes: number) => {
    const end = Promise.withResolvers<string>();
    const written = turns.run(bytes, () => {
      begun.push(name);
      return end.promise;
    });
    const finish = async (): Promise<string> => {
      end.resolve(name);
      return await written;
    };
    return { end: finish };
  };
  return { turns, begun, write, leave };
};

it('begins at once what fits, and the rest in its order as others end', async () => {
  const { begun, write } = makeWrites();
  const [first, second, third, fourth] = [
    write('first', MIB),
    write('second', MIB),
    write('third', 2 * MIB),
    write('fourth', 1),
  ];
  expect(begun).toEqual(['first', 'second']);
  expect(await first.end()).toBe('first');
  // The fourth would fit beside the second, but does not pass the third, which would starve.
  expect(begun).toEqual(['first', 'second']);
  await second.end();
  expect(begun).toEqual(['first', 'second', 'third']);
  await third.end();
  expect(begun).toEqual(['first', 'second', 'third', 'fourth']);
  await fourth.end();
});

it('begins what is larger than all turns alone, and goes on after one that failed', async () => {
  const { turns, begun, write } = makeWrites();
  const failed = turns.run(100 * MIB, () => Promise.reject(new Error('full')));
  const last = write('last', 1);
  expect(begun).toEqual([]);
  await expect(failed).rejects.toThrow('full');
  await last.end();
  expect(begun).toEqual(['last']);
});

it('begins all that wait when one fails: together they wait for a server that is away', async () => {
  const { turns, begun, write } = makeWrites();
  const away = turns.run(2 * MIB, () => Promise.reject(new Error('away')));
  const rest = ['a', 'b', 'c'].map((name) => write(name, 2 * MIB));
  const next = write('next', 1);
  expect(begun).toEqual([]);
  await expect(away).rejects.toThrow('away');
  expect(begun).toEqual(['a', 'b', 'c', 'next']);
  const last = write('last', 2 * MIB);
  for (const one of [...rest, next]) await one.end();
  await last.end();
  expect(begun).toEqual(['a', 'b', 'c', 'next', 'last']);
});

it('begins at once what is asked while the server is away: it waits there with what was asked before', async () => {
  const { begun, write, leave } = makeWrites();
  const first = write('first', 2 * MIB);
  leave();
  const second = write('second', 2 * MIB);
  expect(begun).toEqual(['first', 'second']);
  await first.end();
  await second.end();
});

it('says when all that was asked has begun', async () => {
  const { turns, begun, write, leave } = makeWrites();
  await turns.begun();
  const writes = ['a', 'b', 'c'].map((name) => write(name, 2 * MIB));
  leave();
  const all = turns.begun().then(() => begun.push('all'));
  for (const one of writes) await one.end();
  await all;
  expect(begun).toEqual(['a', 'b', 'c', 'all']);
});
