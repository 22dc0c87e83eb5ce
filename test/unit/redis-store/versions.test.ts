import { afterAll, beforeAll, expect, it } from 'vitest';
import { Directory } from '../../../shared/store/redis/directory.ts';
import { serialOfVersion, VERSIONS_MAX } from '../../../shared/store/redis/layout.ts';
import { RedisRegistry } from '../../../shared/store/redis/registry.ts';
import { specOf } from '../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { QueueRig } from './queue-rig.ts';

let server: RedisServer;

const openRegistry = async (prefix: string) => {
  const rig = await QueueRig.open(server.url, prefix);
  const { link, layout, context } = rig;
  await link.command('SET', layout.store('generation'), context.generation);
  const registry = new RedisRegistry(context, new Directory({ link, layout, owned: () => [] }));
  const deploy = (callTimeoutMs: number, isStaged = false) =>
    registry.deploy({ now: rig.now++, spec: specOf('g', { callTimeoutMs }), isStaged });
  const { id } = (await deploy(1)).record;
  const command = (name: string, key: string, ...args: (string | number)[]) =>
    link.command(name, layout.key(id, key), ...args);
  return { rig, registry, deploy, command };
};

describeWithRedis('the numbers of versions', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.stop());

  it('go round when the last one was given, past those that are in use', async () => {
    const { rig, deploy, command } = await openRegistry('round');
    await using _ = rig;
    await command('HSET', 'function', 'last', VERSIONS_MAX - 1);
    const serials: number[] = [];
    for (const callTimeoutMs of [2, 3]) {
      const { record } = await deploy(callTimeoutMs);
      serials.push(serialOfVersion(record.current.id));
      // The newest first, whatever its number.
      expect(record.versions[0]).toEqual(record.current);
    }
    expect(serials).toEqual([VERSIONS_MAX, 2]);
  });

  it('are refused when all of them are in use, with the way out', async () => {
    const { rig, deploy, command } = await openRegistry('full');
    await using _ = rig;
    const others = Array.from({ length: VERSIONS_MAX - 1 }, (_, i) => [i + 2, 'x']).flat();
    await command('HSET', 'versions', ...others);
    await expect(deploy(2)).rejects.toMatchObject({
      ...{ code: 'invalid_function' },
      message: expect.stringMatching(/has 4095 versions.*Deploy it later, or under another name/),
    });
  });

  it('of staged versions that were dropped are free again, also while the function has calls', async () => {
    const { rig, registry, deploy, command } = await openRegistry('dropped');
    await using _ = rig;
    const { digest } = (await deploy(2, true)).record.staged!;
    await command('HSET', 'queue', 'live_calls', 1);
    expect(await registry.settleStaged({ now: rig.now, name: 'g', digest, end: 'drop' })).toBe(true);
    await registry.forget(rig.now);
    expect(await command('HLEN', 'versions')).toBe(2);
    await registry.forget(rig.now + rig.context.limits.retentionMs);
    expect(await command('HLEN', 'versions')).toBe(1);
  });
});
