/** What the server says of its own work, in /metrics and in headers, after a workload whose figures are known. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Random } from '../sim/random.ts';
import { Herd } from '../support/herd.ts';
import { type Metrics, metricsOf } from '../support/metrics.ts';
import { SEED } from '../support/seed.ts';
import { eventually, type Home } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

/** As in test/fixtures/functions/measured.py. */
const NAME = 'measured';
const SIZE_ROWS = 4;
const DURATION_MS = 300;
/** It takes 250 ms; a worker that is kept from reading begins to count late. */
const HANDLER_MS = 100;
/** Of timers that may fire early, and of times in whole milliseconds. */
const ROUNDING_MS = 5;
const of = { function: NAME };

onEveryStore((store) => {
  let home: Home;
  let herd: Herd;
  let url: string;

  beforeAll(async () => {
    home = await store.makeHome();
    const roles = store.name === 'embedded' ? ['all'] : ['ingress', 'buffer', 'worker'];
    herd = await Herd.start(home, { roles, random: new Random(SEED), args: ['--health-port', '0'] });
    const door = herd.door()!;
    url = door.url;
    await door.deploy('test/fixtures/functions/measured.py');
  });
  afterAll(async () => {
    await herd?.stop();
    await home?.remove();
  });

  const submit = (value: readonly number[], headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${url}/v1/functions/${NAME}/calls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ columns: { value } }),
    });
  const completed = async (value: readonly number[]): Promise<Headers> => {
    const response = await submit(value, { prefer: 'wait=60' });
    expect(await response.json()).toMatchObject({ status: 'completed', result: value });
    return response.headers;
  };
  /** Processes note what they did a moment after the caller has the result. */
  const measured = (what: string, isNoted: (metrics: Metrics) => boolean): Promise<Metrics> =>
    eventually(what, async () => {
      const metrics = await metricsOf(herd.alive);
      return isNoted(metrics) && metrics;
    });

  it('the metrics have the fill, the wait, the reason and the handler time of each batch', async () => {
    const before = await metricsOf(herd.alive);
    await completed([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const added = (after: Metrics, name: string, labels: Record<string, string> = of): number =>
      after.value(name, labels) - before.value(name, labels);
    const after = await measured(
      'three batches are measured',
      (metrics) =>
        added(metrics, 'sluice_batch_wait_ms_count') === 3 && added(metrics, 'sluice_handler_ms_count') === 3,
    );
    const bucket = (name: string, le: string): number => added(after, `${name}_bucket`, { ...of, le });
    expect(added(after, 'sluice_batch_fill_ratio_count')).toBe(3);
    expect(added(after, 'sluice_batch_fill_ratio_sum')).toBe(2 + 1 / SIZE_ROWS);
    expect(['0.1', '0.25', '0.97', '1'].map((le) => bucket('sluice_batch_fill_ratio', le))).toEqual([
      0, 1, 1, 3,
    ]);
    const sealed = (reason: string) => added(after, 'sluice_batches_sealed_total', { ...of, reason });
    expect(['size', 'age', 'bytes', 'drain'].map(sealed)).toEqual([2, 1, 0, 0]);
    // The ninth row waited for others.
    expect(added(after, 'sluice_batch_wait_ms_sum')).toBeGreaterThanOrEqual(DURATION_MS - ROUNDING_MS);
    expect(bucket('sluice_batch_wait_ms', '250')).toBeLessThanOrEqual(2);
    expect(added(after, 'sluice_handler_ms_sum')).toBeGreaterThanOrEqual(3 * HANDLER_MS);
    expect(bucket('sluice_handler_ms', '100')).toBe(0);
    const ran = (end: string) => added(after, 'sluice_attempts_total', { ...of, end });
    expect(['ok', 'error'].map(ran)).toEqual([3, 0]);
  });

  it('the metrics have each attempt of a batch that is retried', async () => {
    const before = await metricsOf(herd.alive);
    await completed([-1]);
    const ran = (metrics: Metrics, end: string): number =>
      metrics.value('sluice_attempts_total', { ...of, end }) -
      before.value('sluice_attempts_total', { ...of, end });
    const count = (metrics: Metrics): number => metrics.value('sluice_handler_ms_count', of);
    const after = await measured('both runs are measured', (metrics) => count(metrics) === count(before) + 2);
    expect(['error', 'ok', 'timeout', 'crash'].map((end) => ran(after, end))).toEqual([1, 1, 0, 0]);
  });

  it('the metrics have the age of the oldest row that waits, which stands in its headers at last', async () => {
    const act = (verb: string) => fetch(`${url}/v1/functions/${NAME}/${verb}`, { method: 'POST' });
    const oldestMs = async (): Promise<number> =>
      (await metricsOf(herd.alive)).value('sluice_queue_oldest_ms', of);
    expect(await oldestMs()).toBe(0);
    expect((await act('pause')).status).toBe(200);
    const sentAt = performance.now();
    const { call_id } = (await (await submit([1])).json()) as { call_id: string };
    const acceptedAt = performance.now();
    const olderThan = (ageMs: number) =>
      eventually(`the row is ${ageMs} ms old`, async () => {
        const askedAt = performance.now();
        const seenMs = await oldestMs();
        return (
          seenMs > ageMs && { seenMs, atLeastMs: askedAt - acceptedAt, atMostMs: performance.now() - sentAt }
        );
      });
    await olderThan(200);
    await submit([2]);
    const { seenMs, atLeastMs, atMostMs } = await olderThan(400);
    expect(seenMs).toBeGreaterThanOrEqual(atLeastMs - ROUNDING_MS);
    expect(seenMs).toBeLessThanOrEqual(atMostMs + ROUNDING_MS);
    expect((await act('resume')).status).toBe(200);
    const { headers } = await fetch(`${url}/v1/calls/${call_id}/result?wait=60`);
    expect(Number(headers.get('x-queue-ms'))).toBeGreaterThanOrEqual(seenMs - ROUNDING_MS);
    await eventually('nothing waits', async () => (await oldestMs()) === 0);
  });

  it('a result has how long its row waited for others and was in the handler', async () => {
    const waited = await completed([1]);
    const { headers: read } = await fetch(`${url}/v1/calls/${waited.get('x-call-id')}/result`);
    for (const headers of [waited, read]) {
      expect(Number(headers.get('x-queue-ms'))).toBeGreaterThanOrEqual(DURATION_MS - ROUNDING_MS);
      expect(Number(headers.get('x-handler-ms'))).toBeGreaterThanOrEqual(HANDLER_MS);
    }
    const shown = await fetch(`${url}/v1/calls/${waited.get('x-call-id')}`);
    expect(await shown.json()).toMatchObject({
      queue_ms: Number(read.get('x-queue-ms')),
      handler_ms: expect.closeTo(Number(read.get('x-handler-ms')), 2),
    });
  });
});
