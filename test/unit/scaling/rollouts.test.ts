/** Updates of scaling groups on real stores: their steps, two processes that take them at once, and ones that are cut off. */
import { expect, it } from 'vitest';
import type { Documents } from '../../../shared/store/ports/documents.ts';
import { ModelRig } from '../../support/model-rig.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

class Cut extends Error {}

/** The process dies when it writes the group's document for the n-th time: before the write, or just after it. */
const cutAt =
  (nth: number, when: 'before' | 'after') =>
  (real: Documents): Documents => {
    let writes = 0;
    const step = async <T>(kind: string, work: () => Promise<T>): Promise<T> => {
      if (kind === 'scaling-group') writes += 1;
      if (writes > nth || (writes === nth && when === 'before')) throw new Cut();
      const answer = await work();
      if (writes === nth) writes += 1;
      return answer;
    };
    return {
      get: (kind, key) => real.get(kind, key),
      list: (query) => real.list(query),
      put: (query) => step(query.kind, () => real.put(query)),
      remove: (query) => step(query.kind, () => real.remove(query)),
    };
  };

const kinds = (view: { readonly events: readonly { readonly kind: string }[] }) =>
  view.events.map(({ kind }) => kind);
const usedBy = async (rig: ModelRig, version: number) =>
  (await rig.main.models.showVersion('house', String(version))).used_by;

onEveryOpenedStore((open) => {
  const started = async (): Promise<ModelRig> => {
    const rig = new ModelRig(await open());
    for (const _ of [1, 2, 3]) await rig.register('house');
    return rig;
  };
  const updating = async (more: object = {}): Promise<ModelRig> => {
    const rig = await started();
    await rig.deploy('g', { version: 1, ...more });
    await rig.report('g', 1, [{}]);
    await rig.deploy('g', { version: 2, ...more });
    return rig;
  };

  it('an update takes over when its replicas are ready, and frees the version before', async () => {
    await using rig = await updating({ scaling: { min_replicas: 2, max_replicas: 4 } });
    expect(await rig.running('g')).toEqual([1, 2]);
    expect([await usedBy(rig, 1), await usedBy(rig, 2)]).toEqual([['g'], ['g']]);
    await rig.report('g', 2, [{}, { state: 'starting' }]);
    expect(await rig.main.rollouts.look('g')).toBe(true);
    expect((await rig.show('g')).update).toMatchObject({ version: 2, reason: '1 of 2 replicas ready' });
    await rig.report('g', 2, [{}, {}]);
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([2, null]);
    const view = await rig.show('g');
    expect(view).toMatchObject({ version: 2, update: null, state: 'ready', reason: null });
    expect(view.replicas.details.map(({ version }) => version).sort()).toEqual([1, 2, 2]);
    expect(kinds(view)).toEqual(['deployed', 'updating', 'updated']);
    expect([await usedBy(rig, 1), await usedBy(rig, 2)]).toEqual([[], ['g']]);
  });

  it('an update whose replicas fail to start is rolled back with their last words', async () => {
    await using rig = await updating();
    const words = 'Traceback …\nModuleNotFoundError: No module named "nowhere"';
    await rig.report('g', 2, [{ state: 'failed', restarts: 2, reason: words }], words);
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([1, null]);
    const view = await rig.show('g');
    expect(view).toMatchObject({ version: 1, update: null, state: 'ready' });
    expect(view.reason).toContain('version 2 was rolled back');
    expect(view.reason).toContain('No module named "nowhere"');
    expect(view.events.at(-1)).toMatchObject({
      kind: 'rolled_back',
      text: expect.stringContaining('nowhere'),
    });
    expect(await usedBy(rig, 2)).toEqual([]);
    // Another deployment begins with a clean sheet, also of the same version.
    await rig.deploy('g', { version: 2 });
    expect((await rig.show('g')).state).toBe('updating');
    expect(await rig.running('g')).toEqual([1, 2]);
  });

  it('an update that is never ready is rolled back after its time', async () => {
    await using rig = await updating({ ready_timeout_ms: 60_000 });
    rig.now += 59_000;
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([1, 2]);
    rig.now += 1000;
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([1, null]);
    expect((await rig.show('g')).reason).toContain('no replica was ready after 60 s');
  });

  it('two processes take each step once', async () => {
    await using rig = await updating();
    const other = rig.process();
    await rig.report('g', 2, [{}]);
    await Promise.all([1, 2, 3].flatMap(() => [rig.main.rollouts.look('g'), other.rollouts.look('g')]));
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([2, null]);
    expect(kinds(await rig.show('g')).filter((kind) => kind === 'updated')).toHaveLength(1);
    await rig.deploy('g', { version: 3 });
    await rig.report('g', 3, [{ state: 'failed', restarts: 3 }]);
    await Promise.all([1, 2, 3].flatMap(() => [rig.main.rollouts.look('g'), other.rollouts.look('g')]));
    expect(await rig.running('g')).toEqual([2, null]);
    expect(kinds(await rig.show('g')).filter((kind) => kind === 'rolled_back')).toHaveLength(1);
  });

  it.each(['before', 'after'] as const)(
    'a deployment that is cut off %s its document is written is taken up again',
    async (when) => {
      await using rig = await started();
      await rig.deploy('g', { version: 1 });
      const dying = rig.process(cutAt(1, when));
      const cut = rig.deploy('g', { version: 2 }, dying);
      // After the document was written, the answer is lost, or late: the function is behind either way.
      await cut.catch((error: unknown) => expect(error).toBeInstanceOf(Cut));
      await rig.main.rollouts.look('g');
      expect(await rig.running('g')).toEqual(when === 'before' ? [1, null] : [1, 2]);
    },
  );

  it('a first version that is not ready says what it waits for', async () => {
    await using rig = await started();
    await rig.deploy('g', { version: 1 });
    const words = 'not ready: GET /ready on port 9000: nobody listens there';
    await rig.report('g', 1, [{ state: 'starting', reason: words }]);
    await rig.main.rollouts.look('g');
    const view = await rig.show('g');
    expect([view.state, view.reason, kinds(view)]).toEqual(['starting', words, ['deployed']]);
  });

  it('a first deployment whose function was not made is made by the next look', async () => {
    await using rig = await started();
    await rig.deploy('g', { version: 1 });
    await rig.main.store.registry.remove('model.g');
    expect((await rig.show('g')).state).toBe('starting');
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([1, null]);
    expect((await rig.main.store.registry.function('model.g'))!.scaling).toMatchObject({ minReplicas: 1 });
  });

  it('steps that are cut off between function and document are finished by another process', async () => {
    for (const nth of [1, 2])
      for (const when of ['before', 'after'] as const)
        for (const end of ['ready', 'failed'] as const) {
          await using rig = await updating();
          await rig.report('g', 2, [{ state: end, restarts: end === 'failed' ? 3 : 0 }]);
          const dying = rig.process(cutAt(nth, when));
          await dying.rollouts.look('g').catch((error: unknown) => expect(error).toBeInstanceOf(Cut));
          for (const _ of [1, 2, 3]) await rig.main.rollouts.look('g');
          expect(await rig.running('g')).toEqual(end === 'ready' ? [2, null] : [1, null]);
          const view = await rig.show('g');
          expect(view.update).toBeNull();
          const ends = kinds(view).filter((kind) => kind === 'updated' || kind === 'rolled_back');
          expect(ends).toEqual([end === 'ready' ? 'updated' : 'rolled_back']);
        }
  });

  it('an update during an update goes on from what was decided last', async () => {
    await using rig = await updating();
    await rig.deploy('g', { version: 3 });
    expect(await rig.running('g')).toEqual([1, 3]);
    expect([await usedBy(rig, 2), await usedBy(rig, 3)]).toEqual([[], ['g']]);
    // Decided, and cut off before the function had it: a deployment that comes now goes on from it.
    await rig.report('g', 3, [{}]);
    await rig
      .process(cutAt(1, 'after'))
      .rollouts.look('g')
      .catch(() => undefined);
    await rig.deploy('g', { version: 2 });
    await rig.report('g', 2, [{}]);
    for (const _ of [1, 2]) await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([2, null]);
    const back = await rig.main.groups.rollback('g', rig.now);
    expect(back.update).toMatchObject({ version: 3 });
  });

  it('a rollback goes to the version before beside what runs, unless it was deleted', async () => {
    await using rig = await updating();
    await rig.report('g', 2, [{}]);
    await rig.main.rollouts.look('g');
    expect((await rig.main.groups.rollback('g', rig.now)).update).toMatchObject({ version: 1 });
    await rig.report('g', 1, [{}]);
    await rig.main.rollouts.look('g');
    expect((await rig.show('g')).version).toBe(1);
    await rig.main.models.removeVersion('house', '2', rig.now);
    await expect(rig.main.groups.rollback('g', rig.now)).rejects.toThrow(
      /version 2 of house before, which was deleted/,
    );
    expect(await usedBy(rig, 1)).toEqual(['g']);
  });

  it('what nobody wants staged is dropped, and a scaling that was lost is set again', async () => {
    await using rig = await updating();
    const { registry } = rig.main.store;
    await rig.main.groups.rollback('g', rig.now);
    const spec = (await registry.function('model.g'))!.current.spec;
    await registry.deploy({ now: rig.now, spec: { ...spec, callTimeoutMs: 7 }, isStaged: true });
    const scaling = (await registry.function('model.g'))!.scaling!;
    await registry.update({
      now: rig.now,
      name: 'model.g',
      update: { scaling: { ...scaling, maxReplicas: 9 } },
    });
    for (const _ of [1, 2]) await rig.main.rollouts.look('g');
    const record = (await registry.function('model.g'))!;
    expect([record.staged, record.scaling]).toEqual([null, scaling]);
  });

  it('a removal that is cut off is finished, or given up where its function stayed', async () => {
    await using rig = await updating();
    const dying = rig.process(cutAt(1, 'after'));
    await dying.groups
      .remove('g', false, rig.now)
      .catch((error: unknown) => expect(error).toBeInstanceOf(Cut));
    await expect(rig.deploy('g', { version: 3 })).rejects.toThrow(/being deleted/);
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([null, null]);
    rig.now += 60_000;
    await rig.main.rollouts.look('g');
    await expect(rig.show('g')).rejects.toThrow(/no scaling group/);
    expect([await usedBy(rig, 1), await usedBy(rig, 2)]).toEqual([[], []]);
    await rig.deploy('g', { version: 3 });
    const silent = rig.process(cutAt(1, 'after'));
    silent.store.registry.remove = () => Promise.reject(new Cut());
    await silent.groups
      .remove('g', false, rig.now)
      .catch((error: unknown) => expect(error).toBeInstanceOf(Cut));
    rig.now += 60_000;
    await rig.main.rollouts.look('g');
    expect((await rig.deploy('g', { version: 3 })).isNew).toBe(false);
  });

  it('a removal whose calls take longer to cancel than a removal is believed to takes the group away', async () => {
    await using rig = await updating();
    const slow = rig.process();
    const cancel = slow.store.queue.cancel.bind(slow.store.queue);
    slow.store.queue.cancel = async (query) => {
      rig.now += 61_000;
      await rig.main.rollouts.look('g');
      return cancel(query);
    };
    await slow.groups.remove('g', true, rig.now);
    await rig.main.rollouts.look('g');
    await expect(rig.show('g')).rejects.toThrow(/no scaling group/);
    expect(await rig.running('g')).toEqual([null, null]);
  });

  it('a version serves before the claim of the one before it is given back', async () => {
    await using rig = await updating();
    await rig.report('g', 2, [{}]);
    const dying = rig.process();
    dying.store.registry.settleStaged = () => Promise.reject(new Cut());
    await dying.rollouts.look('g').catch((error: unknown) => expect(error).toBeInstanceOf(Cut));
    await rig.deploy('g', { version: 3 });
    expect([await rig.running('g'), await usedBy(rig, 1)]).toEqual([[2, 3], []]);
    await rig.report('g', 3, [{ state: 'failed', restarts: 3 }]);
    for (const _ of [1, 2]) await rig.main.rollouts.look('g');
    expect([await rig.running('g'), (await rig.show('g')).version]).toEqual([[2, null], 2]);
  });

  it('two removals at once take the group away', async () => {
    await using rig = await updating();
    const [first, second] = [rig.process(), rig.process()];
    const [seen, removed, ended] = [1, 2, 3].map(() => Promise.withResolvers<void>());
    const { registry: firsts } = first.store;
    const remove = firsts.remove.bind(firsts);
    firsts.remove = async (name) => {
      const isRemoved = await remove(name);
      removed!.resolve();
      await ended!.promise;
      return isRemoved;
    };
    const { registry: seconds } = second.store;
    const read = seconds.function.bind(seconds);
    seconds.function = async (name) => {
      const record = await read(name);
      seen!.resolve();
      await removed!.promise;
      return record;
    };
    // What it saw is gone when it cancels its calls.
    const late = second.groups.remove('g', true, rig.now).catch((error: unknown) => error);
    await seen!.promise;
    const done = first.groups.remove('g', false, rig.now);
    expect(await late).toMatchObject({ code: 'scaling_group_not_found' });
    ended!.resolve();
    await done;
    await expect(rig.show('g')).rejects.toThrow(/no scaling group/);
    expect([await usedBy(rig, 1), await usedBy(rig, 2)]).toEqual([[], []]);
  });

  it('a function that a deployment left behind a removal goes', async () => {
    await using rig = await started();
    await rig.deploy('g', { version: 1 });
    const { registry } = rig.main.store;
    const { spec } = (await registry.function('model.g'))!.current;
    await registry.deploy({ now: rig.now, spec: { ...spec, name: 'model.stray' } });
    await rig.main.rollouts.look('stray');
    expect(await registry.function('model.stray')).toBeDefined();
    rig.now += 60_000;
    for (const name of ['stray', 'g', 'nobody']) await rig.main.rollouts.look(name);
    expect(await registry.function('model.stray')).toBeUndefined();
    expect(await registry.function('model.g')).toBeDefined();
  });

  it('what becomes of the replicas is told in events, once', async () => {
    await using rig = await started();
    const other = rig.process();
    const look = () => Promise.all([rig.main.rollouts.look('g'), other.rollouts.look('g')]);
    await rig.deploy('g', { version: 1, scaling: { min_replicas: 1, max_replicas: 3 } });
    await look();
    await rig.report('g', 1, [{ state: 'failed', restarts: 1, reason: 'boom' }], 'boom');
    await look();
    expect(await rig.show('g')).toMatchObject({ state: 'failed', reason: 'boom' });
    await rig.report('g', 1, [{}]);
    await look();
    await rig.report('g', 1, [{}, {}, {}]);
    await look();
    await rig.report('g', 1, [{}, { state: 'failed', reason: 'boom' }], 'boom');
    await look();
    const { events, state, reason } = await rig.show('g');
    expect([state, reason]).toEqual(['degraded', '1 replica failed: boom']);
    expect(events.slice(1).map(({ kind, text }) => `${kind}: ${text}`)).toEqual([
      'failed: boom',
      'ready: 1 ready',
      'scaled: 3 ready, before that 1',
      'degraded: 1 replica failed: boom',
    ]);
    for (let n = 0; n < 120; n += 1)
      await rig.main.groups.note('model.g', n % 2 === 0 ? 'paused' : 'resumed');
    expect((await rig.show('g')).events).toHaveLength(100);
  });

  it('a group that may have no replicas is idle without any', async () => {
    await using rig = await started();
    await rig.deploy('g', { version: 1, scaling: { min_replicas: 0 } });
    expect(await rig.show('g')).toMatchObject({ state: 'idle', reason: null });
  });
});
