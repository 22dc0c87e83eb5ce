import { expect, it } from 'vitest';
import { RepeatedWork } from '../../../shared/runtime/repeated-work.ts';

const held = () => {
  const rounds: PromiseWithResolvers<void>[] = [];
  const errors: unknown[] = [];
  const repeated = new RepeatedWork({
    everyMs: 1,
    work: () => {
      rounds.push(Promise.withResolvers());
      return rounds.at(-1)!.promise;
    },
    onError: (error) => errors.push(error),
  });
  return { rounds, errors, repeated };
};

it('runs one round at a time, goes on after one that failed, and stops after the one that runs', async () => {
  const { rounds, errors, repeated } = held();
  await repeated.start();
  await repeated.start();
  await expect.poll(() => rounds.length).toBe(1);
  repeated.look();
  expect(rounds).toHaveLength(1);
  rounds[0]!.reject(new Error('once'));
  await expect.poll(() => rounds.length).toBe(2);
  expect(errors).toEqual([new Error('once')]);
  let isStopped = false;
  const stopping = repeated.stop().then(() => {
    isStopped = true;
  });
  await new Promise(setImmediate);
  expect([isStopped, repeated.isStopped]).toEqual([false, true]);
  rounds[1]!.resolve();
  await stopping;
  repeated.look();
  await repeated.start();
  await repeated.stop();
  expect(rounds).toHaveLength(2);
});

it('that is stopped before it starts does nothing', async () => {
  const { rounds, repeated } = held();
  await repeated.stop();
  await repeated.start();
  repeated.look();
  // Began after it: its first round is later than any of that one.
  const later = held();
  await later.repeated.start();
  await expect.poll(() => later.rounds.length).toBe(1);
  later.rounds[0]!.resolve();
  await later.repeated.stop();
  expect(rounds).toEqual([]);
});
