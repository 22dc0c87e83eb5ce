/** A server in this process: what a start that fails leaves behind, and where its health is. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { startServer } from '../../../cli/server.ts';
import { compileSettings } from '../../../shared/config/settings.ts';
import { silentLog } from '../../../shared/runtime/log.ts';

const OPTIONS = { strict: false, python: null };

const settingsIn = (data: string, raw: Record<string, string> = {}) =>
  compileSettings({
    data,
    port: '0',
    ingressThreads: '1',
    grace: '5s',
    leavePause: '0',
    logLevel: 'silent',
    ...raw,
  });

const makeDirectory = (): string => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-server-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

const takenPort = async (): Promise<string> => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void taken.close());
  return String((taken.address() as { port: number }).port);
};

it.each(['port', 'healthPort'])('gives its data directory back when its %s is taken', async (name) => {
  const data = makeDirectory();
  const settings = settingsIn(data, { [name]: await takenPort() });
  await expect(startServer(settings, silentLog(), OPTIONS)).rejects.toThrow(/another process listens there/);
  const server = await startServer(settingsIn(data), silentLog(), OPTIONS);
  expect((await fetch(`${server.address}/livez`)).status).toBe(200);
  await server.stop();
});

it.each([
  ['', 'is a file'],
  ['/below', 'lies below a file'],
])('names a data directory%s that %s, and the way out', async (below, problem) => {
  const file = path.join(makeDirectory(), 'notes.txt');
  writeFileSync(file, 'mine');
  await expect(startServer(settingsIn(`${file}${below}`), silentLog(), OPTIONS)).rejects.toThrow(
    `The data directory ${file}${below} ${problem}; give another directory with --data.`,
  );
});

it('has its health beside the API, ready while the API is', async () => {
  const settings = settingsIn(makeDirectory(), { healthPort: '0', leavePause: '2s' });
  const server = await startServer(settings, silentLog(), OPTIONS);
  const statuses = async (): Promise<number[]> =>
    Promise.all(
      [server.address, server.healthAddress].map(async (at) => (await fetch(`${at}/readyz`)).status),
    );
  expect(await statuses()).toEqual([200, 200]);
  const metrics = await (await fetch(`${server.healthAddress}/metrics`)).text();
  expect(metrics).toContain('sluice_http_requests_total');
  expect(metrics).toContain('sluice_disk_bytes');
  const stopped = server.stop();
  for (let now = await statuses(); now[0] === 200; now = await statuses());
  expect(await statuses()).toEqual([503, 503]);
  await stopped;
});
