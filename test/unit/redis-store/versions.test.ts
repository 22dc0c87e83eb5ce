import { afterAll, beforeAll, expect, it } from 'vitest';
import { Directory } from '../../../shared/store/redis/directory.ts';
import { functionOfVersion, serialOfVersion, VERSIONS_MAX } from '../../../shared/store/redis/layout.ts';
import { runScript } from '../../../shared/store/redis/queue-context.ts';
import { RedisRegistry } from '../../../shared/store/redis/registry.ts';
import { specOf } from '../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { QueueRig } from './queue-rig.ts';

let server: RedisServer;

const admissionOf = (now: number) => ({
  ...{ now, apiKeyId: 0, lane: '', priority: 0, deadlineAt: null, rows: 1, bytes: 8, schemaKey: '' },
  payload: { kind: 'json' as const, text: '[[1]]' },
  ...{ idempotency: null, metadata: {}, traceparent: null },
});

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

describeWithRedis('versions', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.stop());

  it('are not noted as unused that got a call while waiting calls were looked at', async () => {
    const { rig, deploy, command } = await openRegistry('look');
    await using _ = rig;
    const { current } = (await deploy(1)).record;
    const fn = functionOfVersion(current.id);
    const { record } = await deploy(2);
    const admission = { ...admissionOf(rig.now), functionName: 'g' };
    await rig.queue.admit({ ...admission, versionId: record.current.id });
    const ask = (waiting: string, look: string) =>
      runScript(rig.context, 'retire', fn, rig.now, [
        0,
        'told',
        JSON.stringify([current.digest]),
        waiting,
        look,
      ]);
    const note = async () => String(await command('HGET', 'unused', serialOfVersion(current.id)));
    expect(await ask('', 'a')).toEqual([1]);
    await rig.queue.admit({ ...admission, versionId: current.id });
    expect(await ask('', 'b')).toEqual([1]);
    await ask('[2]', 'a');
    // The other look began after that call, and finds it.
    expect(await note()).toBe('b');
    await ask('[1, 2]', 'b');
    expect(await note()).toBe('null');
    await rig.queue.admit({ ...admission, versionId: current.id });
    await ask('[2]', 'b');
    expect(await note()).toBe('null');
  });

  it('are found that were deployed while what was left of their removed function went', async () => {
    const { rig, registry, deploy } = await openRegistry('again');
    await using _ = rig;
    await registry.remove('g');
    const later = Date.now() + rig.context.limits.retentionMs;
    const [, { record }] = await Promise.all([registry.forget(later), deploy(2)]);
    expect((await registry.function('g'))?.current).toEqual(record.current);
    await registry.forget(later);
    expect((await registry.function('g'))?.current).toEqual(record.current);
  });

  it('have numbers that go round when the last one was given, past those that are in use', async () => {
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

  it('have numbers that are refused when all of them are in use, with the way out', async () => {
    const { rig, deploy, command } = await openRegistry('full');
    await using _ = rig;
    const others = Array.from({ length: VERSIONS_MAX - 1 }, (_, i) => [i + 2, 'x']).flat();
    await command('HSET', 'versions', ...others);
    await expect(deploy(2)).rejects.toMatchObject({
      ...{ code: 'invalid_function' },
      message: expect.stringMatching(/has 4095 versions.*Deploy it later, or under another name/),
    });
  });

  it('have numbers that are given again a day after they went at the soonest', async () => {
    const { rig, registry, deploy, command } = await openRegistry('quiet');
    await using _ = rig;
    const serialOf = async (callTimeoutMs: number) =>
      serialOfVersion((await deploy(callTimeoutMs)).record.current.id);
    const { digest } = (await deploy(2)).record.current;
    expect(await serialOf(3)).toBe(3);
    const retire = () => registry.retire({ now: rig.now, name: 'g', digests: [digest], unusedMs: 0 });
    expect([await retire(), await retire()]).toEqual([[], [digest]]);
    // Whoever knew what went by its number (a runner of replicas, a window, a reader) has to hear of it first.
    await command('HSET', 'function', 'last', VERSIONS_MAX);
    expect(await serialOf(4)).toBe(4);
    const others = Array.from({ length: VERSIONS_MAX - 4 }, (_, i) => [i + 5, 'x']).flat();
    await command('HSET', 'versions', ...others);
    await expect(deploy(5)).rejects.toMatchObject({ code: 'invalid_function' });
    await command('HDEL', 'versions', ...others.filter((one) => one !== 'x'));
    rig.now += 86_400_000;
    await command('HSET', 'function', 'last', VERSIONS_MAX);
    expect(await serialOf(5)).toBe(2);
    expect(await command('EXISTS', 'retired')).toBe(0);
  });

  it('go that were staged and dropped, also while the function has calls', async () => {
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
