/** Ports of replicas: no two workers of a machine give the same one, also before anybody listens there. */
import { expect, it } from 'vitest';
import { Ports } from '../../../../workers/container/ports.ts';

const ALL = 12_000;

it('a port that a worker has given, no other gives, though nobody listens there yet', async () => {
  const [own, other] = [new Ports(), new Ports()];
  const port = await own.take();
  const seen = new Set<number>();
  const take = async (): Promise<number> => {
    const next = await other.take();
    other.giveBack(next);
    return next;
  };
  // Round once: it begins anywhere, and leaves out what is not to be had.
  for (let next = await take(); !seen.has(next) && seen.size < ALL; next = await take()) seen.add(next);
  expect(seen).not.toContain(port);
  own.giveBack(port);
  const again = await Promise.all([own.take(), own.take(), other.take()]);
  expect(new Set(again).size).toBe(3);
  for (const one of again.slice(0, 2)) own.giveBack(one);
  other.giveBack(again[2]!);
});
