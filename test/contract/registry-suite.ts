import { expect, it } from 'vitest';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { eventually } from '../support/sluice-process.ts';
import type { StoreFactory } from './factory.ts';
import { LIMITS } from './factory.ts';
import { specOf, Workshop } from './workshop.ts';

const scalingOf = (maxReplicas: number): Scaling => ({
  minReplicas: 0,
  maxReplicas,
  targetRows: null,
  targetWaitMs: 250,
  targetCpuPercent: 70,
  scaleDownMs: 300_000,
  idleMs: 60_000,
});

export const registrySuite = (factory: StoreFactory): void => {
  it('registers the same spec once, whatever the order of its members', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const spec = specOf('g');
    const first = await registry.deploy({ now: shop.now, spec });
    expect(first).toMatchObject({ created: true, record: { name: 'g', paused: false, createdAt: shop.now } });
    expect(first.record.current.digest).toMatch(/^[0-9a-f]{12}$/);
    const turned = Object.fromEntries(Object.entries(spec).toReversed()) as typeof spec;
    const second = await registry.deploy({ now: shop.now + 1, spec: turned });
    expect(second).toMatchObject({ created: false, record: { current: { id: first.record.current.id } } });
    const third = await registry.deploy({ now: shop.now + 2, spec: specOf('g', { callTimeoutMs: 5 }) });
    expect(third.created).toBe(true);
    expect(third.record.versions.map(({ id }) => id)).toEqual([
      third.record.current.id,
      first.record.current.id,
    ]);
    const back = await registry.deploy({ now: shop.now + 3, spec });
    expect(back.record.current.id).toBe(first.record.current.id);
    expect((await registry.functions()).map(({ name }) => name).toSorted()).toEqual(['f', 'g']);
    expect(await registry.function('nope')).toBeUndefined();
  });

  it('says which versions have batches that are not settled, whatever those of others do', async () => {
    await using shop = await Workshop.make(factory);
    const old = shop.versionId;
    const sealedVersions = async () => (await shop.load())?.sealedVersions.toSorted((x, y) => x - y);
    expect(await sealedVersions()).toEqual([]);
    const [a, b] = [await shop.admit(1), await shop.admit(1)];
    await shop.seal([a, 0, 1]);
    await shop.seal([b, 0, 1]);
    const first = await shop.leaseOne();
    expect(await sealedVersions()).toEqual([old]);
    shop.versionId = await shop.deploy(specOf('f', { callTimeoutMs: 2 }));
    const next = shop.versionId;
    const c = await shop.admit(1);
    await shop.seal([c, 0, 1]);
    expect(await sealedVersions()).toEqual([old, next]);
    await shop.settleOk(first);
    shop.versionId = old;
    await shop.settleOk(await shop.leaseOne());
    expect(await sealedVersions()).toEqual([next]);
    await shop.queue.cancel({ now: ++shop.now, functionName: 'f' });
    expect(await sealedVersions()).toEqual([]);
  });

  it('keeps source apart from what it says of functions, and gives that of one version', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const sourceOf = (text: string) => [{ path: 'g.py', content: Buffer.from(text).toString('base64') }];
    const [a, b] = [sourceOf('a = "ä"'), sourceOf('b = 1')];
    const first = await registry.deploy({ now: shop.now, spec: specOf('g', { source: a }) });
    const staged = specOf('g', { source: b });
    const second = await registry.deploy({ now: ++shop.now, spec: staged, isStaged: true });
    const updated = await registry.update({ now: ++shop.now, name: 'g', update: { paused: true } });
    const read = [first.record, second.record, updated, await registry.function('g')];
    for (const record of [...read, ...(await registry.functions())])
      for (const version of [record!.current, ...record!.versions]) expect(version.spec.source).toEqual([]);
    const { id } = first.record.current;
    expect(await registry.source(id)).toEqual(a);
    expect(await registry.source(second.record.staged!.id)).toEqual(b);
    expect(await registry.source(id + 1000)).toBeUndefined();
    // The same spec is the same version still: its digest counts the source.
    expect(await registry.deploy({ now: ++shop.now, spec: staged })).toMatchObject({
      created: false,
      record: { current: { id: second.record.staged!.id } },
    });
  });

  it('stages a version beside the current one, and ends its wait once', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const first = (await registry.deploy({ now: shop.now, spec: specOf('g') })).record.current;
    const [b, c] = [specOf('g', { callTimeoutMs: 2 }), specOf('g', { callTimeoutMs: 3 })];
    const stage = (spec: typeof b) => registry.deploy({ now: ++shop.now, spec, isStaged: true });
    const staged = await stage(b);
    expect(staged).toMatchObject({
      created: true,
      record: { current: { id: first.id }, updatedAt: shop.now },
    });
    const { digest } = staged.record.staged!;
    expect(staged.record.versions.map(({ digest }) => digest)).toEqual([digest, first.digest]);
    expect(await stage(b)).toMatchObject({ created: false, record: { staged: { digest } } });
    await shop.settled();
    const told = shop.collect('functions');
    const end = (digest: string, end: 'activate' | 'drop', name = 'g') =>
      registry.settleStaged({ now: ++shop.now, name, digest, end });
    expect(await end(first.digest, 'activate')).toBe(false);
    expect(await end(digest, 'activate', 'nope')).toBe(false);
    const ends = await Promise.all([end(digest, 'activate'), end(digest, 'drop')]);
    expect(ends.filter((ended) => ended)).toHaveLength(1);
    // In a cluster notices may come some time after the answer, those of the deploys among them.
    await eventually('the end is told', async () => told.length > 0);
    expect(told.at(-1)).toEqual({ name: 'g', hasMoved: false });
    await shop.reopen();
    const activated = (await shop.store.registry.function('g'))!;
    expect(activated).toMatchObject({ current: { digest }, staged: null });
    const other = (await shop.store.registry.deploy({ now: shop.now, spec: c, isStaged: true })).record
      .staged!;
    const dropped = { now: ++shop.now, name: 'g', digest: other.digest, end: 'drop' } as const;
    expect(await shop.store.registry.settleStaged(dropped)).toBe(true);
    expect(await shop.store.registry.settleStaged(dropped)).toBe(false);
    expect(await shop.store.registry.function('g')).toEqual({ ...activated, updatedAt: shop.now });
  });

  it('keeps a dropped version that was current, and forgets one that never was', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const [a, b, c] = [specOf('g'), specOf('g', { callTimeoutMs: 2 }), specOf('g', { callTimeoutMs: 3 })];
    const before = (await registry.deploy({ now: shop.now, spec: a })).record.current;
    await registry.deploy({ now: shop.now, spec: b });
    const again = await registry.deploy({ now: shop.now, spec: a, isStaged: true });
    expect(again).toMatchObject({ created: false, record: { staged: { id: before.id } } });
    // Another one takes its place.
    const { record } = await registry.deploy({ now: shop.now, spec: c, isStaged: true });
    expect(record.versions.map(({ id }) => id)).toEqual([record.staged!.id, record.current.id, before.id]);
    // A deploy ends the wait of what was staged: it names what shall be current.
    const back = await registry.deploy({ now: shop.now, spec: b, isStaged: true });
    expect(back.record).toMatchObject({ current: { id: record.current.id }, staged: null });
    expect(back.record.versions.map(({ id }) => id)).toEqual([record.current.id, before.id]);
    shop.now += 2 * LIMITS.retentionMs;
    await shop.store.retention.sweep({ now: shop.now, limit: 10 });
    const anew = await registry.deploy({ now: shop.now, spec: c, isStaged: true });
    expect(anew.created).toBe(true);
    await shop.reopen();
    const current = await shop.store.registry.deploy({ now: shop.now, spec: c });
    expect(current).toMatchObject({ created: false, record: { current: anew.record.staged, staged: null } });
    expect(current.record.versions.map(({ id }) => id)).toEqual([
      current.record.current.id,
      record.current.id,
      before.id,
    ]);
  });

  it('refuses to repin calls to a version that may be dropped', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const from = (await registry.function('f'))!.current.digest;
    const spec = specOf('f', { callTimeoutMs: 7 });
    const to = (await registry.deploy({ now: shop.now, spec, isStaged: true })).record.staged!.digest;
    await shop.admit(1);
    const query = { now: shop.now, name: 'f', from, to };
    await expect(registry.repin(query)).rejects.toMatchObject({ code: 'invalid_request' });
    await registry.settleStaged({ now: shop.now, name: 'f', digest: to, end: 'activate' });
    expect(await registry.repin(query)).toBe(1);
  });

  it('makes the first version current at once, also after the function was removed', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const scaling = scalingOf(1);
    const query = { spec: specOf('g'), isStaged: true, scaling };
    const first = await registry.deploy({ now: shop.now, ...query });
    expect(first.record).toMatchObject({ current: { spec: { name: 'g' } }, staged: null, scaling });
    await registry.deploy({ now: shop.now, spec: specOf('g', { callTimeoutMs: 2 }), isStaged: true });
    await registry.remove('g');
    const spec = specOf('g', { callTimeoutMs: 3 });
    const again = await registry.deploy({ now: shop.now, spec, isStaged: true });
    expect(again.record).toMatchObject({
      staged: null,
      scaling: null,
      current: { spec: { callTimeoutMs: 3 } },
    });
    expect(again.record.versions).toHaveLength(1);
  });

  it('keeps the scaling of a function whatever its version', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    await registry.deploy({ now: shop.now, spec: specOf('g') });
    const scaled = async () => (await shop.store.registry.function('g'))?.scaling;
    expect(await scaled()).toBeNull();
    const update = { scaling: scalingOf(3) };
    const after = await registry.update({ now: shop.now, name: 'g', update });
    expect(after?.scaling).toEqual(update.scaling);
    await registry.deploy({ now: shop.now, spec: specOf('g', { callTimeoutMs: 2 }) });
    await shop.reopen();
    expect(await scaled()).toEqual(update.scaling);
    const told = shop.collect('functions');
    const spec = specOf('g', { callTimeoutMs: 2 });
    const { record } = await shop.store.registry.deploy({ now: shop.now, spec, scaling: scalingOf(5) });
    expect(record).toEqual({ ...(await shop.store.registry.function('g')), scaling: scalingOf(5) });
    await shop.store.registry.update({ now: shop.now, name: 'g', update: { paused: true } });
    expect(await scaled()).toEqual(scalingOf(5));
    await shop.store.registry.deploy({ now: shop.now, spec, scaling: null });
    expect(await scaled()).toBeNull();
    await eventually('the changes are told', async () => told.length > 0);
  });

  it('changes batching beside the version, and pauses', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const before = await registry.function('f');
    const update = { batching: { sizeRows: 99 }, paused: true };
    const after = await registry.update({ now: shop.now + 5, name: 'f', update });
    expect(after).toMatchObject({
      paused: true,
      updatedAt: shop.now + 5,
      current: {
        id: before?.current.id,
        digest: before?.current.digest,
        spec: { batching: { sizeRows: 99, durationMs: 5 } },
      },
    });
    expect(await registry.update({ now: 0, name: 'nope', update })).toBeUndefined();
    const read = await registry.function('f');
    expect(read).toEqual(after);
  });

  it('removes a function when it is idle; its finished calls stay readable', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const id = await shop.admit(1);
    expect(await registry.loadOf('f')).toEqual(await shop.load());
    await expect(registry.remove('f')).rejects.toMatchObject({
      ...{ code: 'function_busy' },
      message: 'Function "f" has 1 unfinished call; purge it or wait until it is finished.',
    });
    await shop.settleOk(await shop.run([id, 0, 1]));
    expect(await registry.remove('f')).toBe(true);
    expect(await registry.remove('f')).toBe(false);
    expect(await registry.function('f')).toBeUndefined();
    expect(await registry.loadOf('f')).toBeUndefined();
    expect(await registry.loadOf('nope')).toBeUndefined();
    expect(await registry.functions()).toEqual([]);
    await expect(shop.admit(1)).rejects.toMatchObject({ code: 'function_not_found' });
    expect(await shop.call(id)).toMatchObject({ functionName: 'f', status: 'completed' });
    const query = { functionName: 'f', status: null, apiKeyId: null, before: null, limit: 10 };
    expect((await shop.queue.list(query)).calls).toMatchObject([{ id }]);
    shop.now += LIMITS.retentionMs;
    await shop.store.retention.sweep({ now: shop.now, limit: 10 });
    const again = await registry.deploy({ now: shop.now, spec: specOf('f') });
    expect(again).toMatchObject({ created: true });
    expect(again.record.versions).toHaveLength(1);
    await expect(shop.admit(1, { versionId: again.record.current.id })).resolves.toBeGreaterThan(id);
  });

  it('begins anew with a function that was removed; only its calls and their keys are left', async () => {
    await using shop = await Workshop.make(factory);
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const call = await shop.admit(1, { idempotency });
    await shop.settleOk(await shop.run([call, 0, 1]));
    const update = { paused: true, batching: { sizeRows: 99 }, scaling: scalingOf(3) };
    const before = await shop.store.registry.update({ now: ++shop.now, name: 'f', update });
    await shop.store.registry.deploy({ now: ++shop.now, spec: specOf('f', { callTimeoutMs: 2 }) });
    await shop.store.registry.remove('f');
    shop.now += 1;
    // Opening deploys it anew.
    await shop.reopen();
    const after = (await shop.store.registry.function('f'))!;
    const current = { ...before!.current, createdAt: shop.now, spec: specOf('f', { source: [] }) };
    const [createdAt, updatedAt] = [shop.now, shop.now];
    expect(after).toEqual({
      ...before,
      ...{ current, versions: [current], staged: null, scaling: null, paused: false, createdAt, updatedAt },
    });
    expect(await shop.call(call)).toMatchObject({ functionName: 'f', status: 'completed' });
    expect(await shop.admit(1, { idempotency })).toBe(call);
    await shop.reopen();
    expect(await shop.store.registry.function('f')).toEqual(after);
  });

  it('retires a version when no call of it waits, and none of its results is readable', async () => {
    await using shop = await Workshop.make(factory);
    const { registry, retention } = shop.store;
    const deploy = async (callTimeoutMs: number, isStaged = false): Promise<string> => {
      shop.now += 1;
      const spec = specOf('f', { callTimeoutMs });
      const { record } = await registry.deploy({ now: shop.now, spec, isStaged });
      shop.versionId = record.current.id;
      return (isStaged ? record.staged : record.current)!.digest;
    };
    const waited = (await registry.function('f'))!.current.digest;
    const waiting = await shop.admit(1);
    const [read, unused] = [await deploy(2), await deploy(3)];
    const unusedId = shop.versionId;
    const current = await deploy(4);
    const staged = await deploy(5, true);
    shop.versionId = (await registry.function('f'))!.versions.find(({ digest }) => digest === read)!.id;
    const done = await shop.admit(1);
    await shop.settleOk(await shop.run([done, 0, 1]));
    const digests = [waited, read, unused, current, staged, 'none'];
    const retire = () => registry.retire({ now: shop.now, name: 'f', digests, unusedMs: 1000 });
    const kept = async () => (await registry.function('f'))!.versions.map(({ digest }) => digest).toSorted();
    expect(await retire()).toEqual([]);
    shop.now += LIMITS.retentionMs + 999;
    expect(await retire()).toEqual([]);
    expect((await shop.result(done)).parts).toHaveLength(1);
    shop.now += 1;
    const told = shop.collect('functions');
    expect((await retire()).toSorted()).toEqual([read, unused].toSorted());
    await eventually('the change is told', async () => told.length > 0);
    expect(await kept()).toEqual([waited, current, staged].toSorted());
    expect(await registry.source(unusedId)).toBeUndefined();
    await retention.sweep({ now: shop.now, limit: 10 });
    expect(await registry.repin({ now: shop.now, name: 'f', from: waited, to: current })).toBe(1);
    expect(await shop.call(waiting)).toMatchObject({ status: 'pending' });
    const again = await registry.deploy({ now: shop.now, spec: specOf('f', { callTimeoutMs: 3 }) });
    expect([again.created, again.record.current.digest]).toEqual([true, unused]);
    expect(await registry.retire({ now: shop.now, name: 'nope', digests, unusedMs: 0 })).toEqual([]);
  });

  it('retires no version that was used again after it was found unused', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const [first, second] = [1, 2].map((callTimeoutMs) => specOf('f', { callTimeoutMs }));
    const digestOf = async (spec = first!) =>
      (await registry.deploy({ now: ++shop.now, spec })).record.current.digest;
    const [a, b] = [await digestOf(), await digestOf(second)];
    const retire = () => registry.retire({ now: shop.now, name: 'f', digests: [a], unusedMs: 10 });
    expect(await retire()).toEqual([]);
    await digestOf();
    await digestOf(second);
    shop.now += LIMITS.retentionMs + 10;
    expect(await retire()).toEqual([]);
    // Calls that are moved to it make it used as well, also when they are finished by the next look.
    shop.versionId = (await registry.function('f'))!.current.id;
    const call = await shop.admit(1);
    expect(await registry.repin({ now: shop.now, name: 'f', from: b, to: a })).toBe(1);
    await shop.queue.cancel({ now: shop.now, callId: call });
    shop.now += LIMITS.retentionMs + 10;
    expect(await retire()).toEqual([]);
    const readable = shop.now;
    await shop.reopen();
    shop.now = readable + LIMITS.retentionMs + 10;
    expect(
      await shop.store.registry.retire({ now: shop.now, name: 'f', digests: [a], unusedMs: 10 }),
    ).toEqual([a]);
  });

  it('repins waiting rows to a version with the same schemas', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const [from, { record }] = [
      (await registry.function('f'))!.current.digest,
      await registry.deploy({ now: shop.now, spec: specOf('f', { callTimeoutMs: 7 }) }),
    ];
    const [waiting, partly, sealed] = [await shop.admit(1), await shop.admit(4), await shop.admit(1)];
    await shop.seal([partly, 0, 2], [sealed, 0, 1]);
    const told = shop.collect('waiting');
    const query = { now: shop.now, name: 'f', from, to: record.current.digest };
    expect(await registry.repin(query)).toBe(2);
    expect(await registry.repin(query)).toBe(0);
    const toldAnew = () => told.flat().filter(({ versionId }) => versionId === record.current.id);
    const places = () => [...new Set(toldAnew().map(({ callId, from: at }) => `${callId} from ${at}`))];
    await eventually('both calls are told', async () => places().length >= 2);
    // What was not read before it moved is told as new as well.
    expect(places()).toEqual([`${waiting} from 0`, `${partly} from 2`]);
    expect((await shop.seal([waiting, 0, 1])).batchId).toBeNull();
    const old = await shop.leaseOne();
    expect(old.slices.map(({ callId }) => callId)).toEqual([partly, sealed]);
    await shop.settleOk(old);
    shop.versionId = record.current.id;
    await shop.settleOk(await shop.run([waiting, 0, 1], [partly, 2, 2]));
    for (const id of [waiting, partly, sealed])
      expect(await shop.call(id)).toMatchObject({ status: 'completed' });
    expect(await shop.load()).toMatchObject({ waitingRows: 0, sealedRows: 0 });
  });

  it('refuses to repin between different schemas or unknown versions', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const from = (await registry.function('f'))!.current.digest;
    const other = specOf('f', { output: { type: 'utf8', nullable: false } });
    const to = (await registry.deploy({ now: shop.now, spec: other })).record.current.digest;
    const query = { now: shop.now, name: 'f', from, to };
    await expect(registry.repin(query)).rejects.toMatchObject({ code: 'schemas_differ' });
    await expect(registry.repin({ ...query, to: 'x' })).rejects.toMatchObject({ code: 'function_not_found' });
    await expect(registry.repin({ ...query, name: 'x' })).rejects.toMatchObject({
      code: 'function_not_found',
    });
  });

  it('keeps the latest report of each version and worker until it is over, and log lines', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const { now } = shop;
    const report = {
      workerId: 'a',
      versionId: shop.versionId,
      ready: 1,
      starting: 0,
      failed: 0,
      reason: null,
      ignored: ['gpu'],
      until: now + 1000,
    };
    const other = { ...report, workerId: 'b', until: now + 2000 };
    await registry.report({ now, report: { ...report, ready: 0 } });
    await registry.report({ now, report });
    await registry.report({ now, report: other });
    const told = async (at: number, name = 'f') =>
      [...(await registry.reports({ now: at, name }))].sort((a, b) => (a.workerId < b.workerId ? -1 : 1));
    expect(await told(now)).toEqual([report, other]);
    expect(await told(now + 1000)).toEqual([other]);
    await registry.report({ now, report: { ...other, until: now } });
    expect(await told(now)).toEqual([report]);
    expect(await told(now, 'nope')).toEqual([]);
    const line = (text: number) =>
      ({ at: text, functionName: 'f', replica: 0, stream: 'stdout', text: String(text) }) as const;
    await registry.appendLogs(Array.from({ length: 2500 }, (_, index) => line(index)));
    expect(await registry.logs({ name: 'f', limit: 2 })).toEqual([line(2498), line(2499)]);
    expect(await registry.logs({ name: 'f', limit: 5000 })).toHaveLength(1000);
    expect(await registry.logs({ name: 'g', limit: 5 })).toEqual([]);
    await registry.remove('f');
    expect(await registry.logs({ name: 'f', limit: 5 })).toEqual([]);
    // Handlers of a removed function may still print.
    await registry.appendLogs([line(1)]);
    await shop.deploy(specOf('f'));
    expect(await registry.logs({ name: 'f', limit: 5 })).toEqual([]);
  });

  it('keeps API keys by the hash of their secret', async () => {
    await using shop = await Workshop.make(factory);
    const { keys } = shop.store;
    const query = {
      now: shop.now,
      name: 'k',
      scopes: ['call', 'admin'],
      secretHash: 'h',
      prefix: 'sk_1',
    } as const;
    const key = await keys.create(query);
    expect(key).toEqual({
      id: expect.any(Number),
      name: 'k',
      scopes: ['call', 'admin'],
      prefix: 'sk_1',
      createdAt: shop.now,
    });
    expect(await keys.find('h')).toEqual(key);
    expect(await keys.find('other')).toBeUndefined();
    await shop.reopen();
    expect(await shop.store.keys.list()).toEqual([key]);
    expect(await shop.store.keys.revoke(key.id)).toBe(true);
    expect(await shop.store.keys.revoke(key.id)).toBe(false);
    expect(await shop.store.keys.find('h')).toBeUndefined();
    const next = await shop.store.keys.create({ ...query, secretHash: 'i' });
    // A revoked key's id is never another's: calls belong to it.
    expect(next.id).toBeGreaterThan(key.id);
  });
};
