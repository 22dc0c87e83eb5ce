/** `sluice migrate` as its users run it, between real servers. */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { describeWithRedis, RedisServer } from '../support/redis-servers.ts';
import {
  directoryHome,
  type Home,
  SluiceServer,
  sluice,
  temporaryDirectory,
} from '../support/sluice-process.ts';

const field = (name: string) => ({ name, type: 'float64', nullable: true });

const [from, to] = [temporaryDirectory(), temporaryDirectory()];
const migrate = (...more: string[]) =>
  sluice(['migrate', '--from', `embedded:${from}`, '--to', `embedded:${to}`, ...more]);

describe('sluice migrate', () => {
  let server: SluiceServer;
  afterAll(async () => {
    await server?.dispose();
    for (const directory of [from, to]) rmSync(directory, { recursive: true, force: true });
  });

  it('takes results and waiting calls along, under the ids that callers hold', async () => {
    server = await SluiceServer.start({ home: directoryHome(from) });
    await server.deploy('test/fixtures/functions/double.py');
    const before = new Sluice({ url: server.url }).function<{ value: number }, number>('double');
    const finished = await before.deferBatch([{ value: 1 }, { value: 2 }]);
    expect(await finished.get({ timeoutMs: 60_000 })).toEqual([2, 4]);
    expect(await server.run(['pause', 'double'])).toMatchObject({ code: 0 });
    const waiting = await before.deferBatch([{ value: 3 }]);
    const served = await migrate();
    expect(served.code).toBe(1);
    expect(served.stderr).toContain('Another process owns the data directory');

    expect(await server.kill('SIGTERM')).toBe(0);
    mkdirSync(path.join(from, 'artifacts'));
    const moved = await migrate('--json');
    expect(moved).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(moved.stdout)).toMatchObject({
      moved: true,
      artifacts: `Model files do not move: cp -r ${from}/artifacts ${to}`,
      counts: { functions: 2, unfinishedCalls: 1, finishedCalls: 1, rows: { open: 1, ok: 2 } },
    });
    expect((await migrate()).stdout).toContain('had moved');
    const old = await sluice(['dev', '--port', '0', '--data', from]);
    expect(old.code).toBe(1);
    expect(old.stderr).toContain(`moved to embedded:${to}`);

    server = await SluiceServer.start({ home: directoryHome(to) });
    const client = new Sluice({ url: server.url });
    expect(await client.call(finished.callId).get({ timeoutMs: 60_000 })).toEqual([2, 4]);
    expect(await server.run(['resume', 'double'])).toMatchObject({ code: 0 });
    expect(await client.call(waiting.callId).get({ timeoutMs: 60_000 })).toEqual([6]);
  });

  it('names what is wrong with its arguments', async () => {
    const nowhere = await sluice(['migrate', '--from', 'x', '--to', 'embedded:y']);
    expect(nowhere).toMatchObject({ code: 2 });
    expect(nowhere.stderr).toContain('--from is "x"; give embedded:DIRECTORY');
    const same = await sluice(['migrate', '--from', 'embedded:a', '--to', 'embedded:./a']);
    expect(same).toMatchObject({ code: 2 });
    expect(same.stderr).toContain('the same place');
  });
});

describeWithRedis('sluice migrate with a Redis server', () => {
  let redis: RedisServer;
  let server: SluiceServer;
  const [there, back, kept] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterAll(async () => {
    await server?.kill();
    await redis?.stop();
    for (const directory of [there, back, kept]) rmSync(directory, { recursive: true, force: true });
  });

  it('goes there and comes back, while calls keep their ids', async () => {
    const shared: Home = { command: 'serve', args: ['--store', redis.url], remove: async () => undefined };
    server = await SluiceServer.start({ home: directoryHome(there) });
    await server.deploy('test/fixtures/functions/double.py');
    const double = new Sluice({ url: server.url }).function<{ value: number }, number>('double');
    const finished = await double.deferBatch([{ value: 1 }]);
    expect(await finished.get({ timeoutMs: 60_000 })).toEqual([2]);
    expect(await server.run(['pause', 'double'])).toMatchObject({ code: 0 });
    const waiting = await double.deferBatch([{ value: 3 }]);
    expect(await server.kill('SIGTERM')).toBe(0);
    const out = await sluice(['migrate', '--from', `embedded:${there}`, '--to', redis.url]);
    expect(out).toMatchObject({ code: 0, stderr: '' });

    server = await SluiceServer.start({ home: shared });
    expect(await new Sluice({ url: server.url }).call(finished.callId).get({ timeoutMs: 60_000 })).toEqual([
      2,
    ]);
    const registered = await fetch(`${server.url}/v1/models/linear/versions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs: [field('x')], outputs: [field('y')], image: { reference: 'linear:1' } }),
    });
    expect(registered.status, await registered.text()).toBe(201);
    const between = await new Sluice({ url: server.url })
      .function<{ value: number }, number>('double')
      .deferBatch([{ value: 4 }]);
    expect(await server.kill('SIGTERM')).toBe(0);
    const home = await sluice(['migrate', '--from', redis.url, '--to', `embedded:${back}`], {
      SLUICE_ARTIFACTS: kept,
    });
    expect(home).toMatchObject({ code: 0, stderr: '' });
    expect(home.stdout).toContain(`Model files do not move: cp -r ${kept}/. ${back}/artifacts`);
    expect((await sluice(['serve', ...shared.args, '--port', '0'])).stderr).toContain(
      `moved to embedded:${back}`,
    );

    server = await SluiceServer.start({ home: directoryHome(back) });
    expect(await server.run(['resume', 'double'])).toMatchObject({ code: 0 });
    const client = new Sluice({ url: server.url });
    expect(await client.call(finished.callId).get({ timeoutMs: 60_000 })).toEqual([2]);
    expect(await client.call(waiting.callId).get({ timeoutMs: 60_000 })).toEqual([6]);
    expect(await client.call(between.callId).get({ timeoutMs: 60_000 })).toEqual([8]);
  });
});
