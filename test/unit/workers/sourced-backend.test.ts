/** Versions get their source when something is about to start, also from a store that was away. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { FunctionVersion } from '../../../shared/domain/function.ts';
import { plainScaling } from '../../../shared/domain/scaling.ts';
import type { Backend } from '../../../workers/backend.ts';
import { sourcedBackend } from '../../../workers/sourced-backend.ts';
import { PLAIN_SPEC } from '../../support/function-spec.ts';

const version: FunctionVersion = {
  ...{ id: 7, digest: 'd', createdAt: 0 },
  spec: { ...PLAIN_SPEC, source: [] },
};
const source = [{ path: 'a.py', content: '' }];
const [small, large] = [plainScaling({ min: 0, max: 1 }), plainScaling({ min: 0, max: 9 })];

const followed = (answers: (typeof source | undefined | Error)[]) => {
  const heard: unknown[] = [];
  const inner: Backend = {
    ignored: () => [],
    launch: () => Promise.reject(new Error('it was launched')),
    stop: () => Promise.resolve(),
    follow: ({ spec }, { maxReplicas }) => {
      heard.push(['follow', spec.source, maxReplicas]);
      return {
        rescale: (to) => heard.push(['rescale', to.maxReplicas]),
        end: async (how) => {
          heard.push(['end', how]);
        },
      };
    },
  };
  const read = async () => {
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const backend = sourcedBackend(inner, { source: read });
  const begin = () =>
    backend.follow!(
      version,
      small,
      () => undefined,
      (reason) => heard.push(reason),
    );
  return { heard, begin, backend };
};

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('is followed with what is wanted by then', async () => {
  const { heard, begin } = followed([new Error('the store is away'), source]);
  const one = begin();
  await vi.advanceTimersByTimeAsync(0);
  expect(heard).toEqual(['the store is away']);
  one.rescale(large);
  await vi.runAllTimersAsync();
  expect(heard.slice(1)).toEqual([['follow', source, 9]]);
  one.rescale(small);
  await one.end('keep');
  expect(heard.slice(2)).toEqual([
    ['rescale', 1],
    ['end', 'keep'],
  ]);
});

it('is taken away though it was not followed yet', async () => {
  const { heard, begin } = followed([source]);
  await begin().end('remove');
  expect(heard).toEqual([
    ['follow', source, 1],
    ['end', 'remove'],
  ]);
});

it('is not read again once it ended', async () => {
  const { heard, begin } = followed([new Error('the store is away')]);
  await begin().end('remove');
  await vi.runAllTimersAsync();
  expect(heard).toEqual(['the store is away']);
});

it('does not start when the store has it no more, and says so', async () => {
  const { backend } = followed([undefined]);
  const launched = backend.launch({
    ...{ version, replica: 0, devices: [], onLine: () => undefined },
    signal: new AbortController().signal,
  });
  await expect(launched).rejects.toThrow('version d is not in the store any more');
});
