/** The health port: what probes and scrapers of every role meet. */
import { expect, it, onTestFinished } from 'vitest';
import { ownExposition } from '../../../services/ingress/exposition.ts';
import { makeHealthServer } from '../../../services/ingress/health-server.ts';

const started = async (reachStore: () => Promise<unknown> = async () => undefined, port = 0) => {
  const health = makeHealthServer({ host: 'localhost', port, reachStore, exposition: ownExposition });
  onTestFinished(() => health.stop());
  await health.start();
  const ask = async (route: string) => {
    const response = await fetch(health.address() + route);
    return { status: response.status, text: await response.text(), headers: response.headers };
  };
  return { health, ask };
};

it('lives from its start on, is ready when it is told, and not while it leaves', async () => {
  const { health, ask } = await started();
  expect(await ask('/livez')).toMatchObject({ status: 200 });
  expect(await ask('/readyz')).toMatchObject({ status: 503, text: expect.stringContaining('starting') });
  health.setReady(true);
  expect(await ask('/readyz')).toMatchObject({ status: 200, text: '{"status":"ready"}' });
  health.setReady(false);
  expect((await ask('/readyz')).status).toBe(503);
  expect((await ask('/livez')).status).toBe(200);
});

it('is not ready while the store is not reached, and says why', async () => {
  const { health, ask } = await started(async () => {
    throw new Error('ECONNREFUSED 127.0.0.1:6379');
  });
  health.setReady(true);
  expect(await ask('/readyz')).toMatchObject({
    status: 503,
    text: '{"status":"not ready","reason":"ECONNREFUSED 127.0.0.1:6379"}',
  });
});

it('names lost data as the cause, before it leaves and while it does', async () => {
  const { health, ask } = await started();
  health.setReady(true);
  health.lose('The store was emptied.');
  const lost = { status: 503, text: '{"status":"not ready","reason":"The store was emptied."}' };
  expect(await ask('/readyz')).toMatchObject(lost);
  health.setReady(false);
  expect(await ask('/readyz')).toMatchObject(lost);
});

it('shows the metrics of the process, and nothing else', async () => {
  const { ask } = await started();
  const metrics = await ask('/metrics');
  expect(metrics.headers.get('content-type')).toContain('text/plain');
  expect(metrics.text).toContain('# TYPE sluice_batches_sealed_total counter');
  expect((await ask('/v1/functions')).status).toBe(404);
});

it('refuses a port that is taken, starts once and stops twice', async () => {
  const { health } = await started();
  const port = Number(new URL(health.address()).port);
  await expect(started(undefined, port)).rejects.toThrow(
    `--health-port is ${port} on localhost, and the server cannot listen: another process listens there`,
  );
  await health.start();
  await health.stop();
  await health.stop();
});
