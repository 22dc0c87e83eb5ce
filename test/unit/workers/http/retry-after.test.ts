/** How long an engine that is busy is left alone. */
import { describe, expect, it } from 'vitest';
import { decide } from '../../../../shared/domain/retry.ts';
import { failureOf, retryAfterMs } from '../../../../workers/http/failed-reply.ts';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const RETRY = {
  retries: 1,
  initialMs: 100,
  multiplier: 1,
  maxMs: 100,
  jitter: 0,
  retryOn: [],
  terminalOn: [],
};

describe('Retry-After', () => {
  it.each([
    [undefined, null],
    ['2', 2000],
    [' 0 ', 0],
    ['Thu, 01 Jan 2026 00:00:05 GMT', 5000],
    ['Wed, 31 Dec 2025 23:00:00 GMT', 0],
    ['99999999', 3_600_000],
    ['soon', null],
    ['-1e9999', null],
  ])('%s is %s ms', (header, ms) => {
    expect(retryAfterMs(header, NOW)).toBe(ms);
  });

  it('is heard of those that are busy or closed, and of nobody else', () => {
    const reply = (status: number) => ({ status, header: () => '2', body: Buffer.alloc(0) });
    for (const [status, ms] of [
      [429, 2000],
      [503, 2000],
      [500, undefined],
    ] as const)
      expect(failureOf(reply(status), '/infer', NOW).retryAfterMs).toBe(ms);
  });
});

describe('the next run', () => {
  const slices = [{ callId: 1, from: 0, count: 2 }];
  const run = (attempts: number, wait: number) =>
    decide(
      { slices, attempts, claims: 0, mode: 'fresh' },
      { retry: RETRY, isolation: 'bisect', claimsMax: 5 },
      { end: 'error', error: { code: 'handler_error', message: 'busy' }, mro: [], retryAfterMs: wait },
      { now: NOW, random: 0, hopeless: false },
    ).continuations.map(({ notBefore }) => notBefore - NOW);

  it('is no earlier than was asked for, nor than the back-off', () => {
    expect(run(0, 2000)).toEqual([2000]);
    expect(run(0, 50)).toEqual([100]);
  });

  it('waits as well when the retries are spent and the rows are looked at apart', () => {
    expect(run(1, 2000)).toEqual([2000, 2000]);
  });
});
