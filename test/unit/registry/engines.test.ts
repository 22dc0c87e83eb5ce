/** The rules of engines on real stores: defaults, what is cut off, who passes whom, and what goes by itself. */
import { expect, it } from 'vitest';
import type { Documents } from '../../../shared/store/ports/documents.ts';
import { ENGINE, IMPORTED, SELECTOR } from '../../support/engine-registration.ts';
import { type ModelProcess, ModelRig } from '../../support/model-rig.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NAME = { project: 'vision', name: 'onnx' };

class Cut extends Error {}

/** The process dies at its n-th write: before it, or after it and before it is told so. */
const cutAt =
  (nth: number, when: 'before' | 'after') =>
  (real: Documents): Documents => {
    let writes = 0;
    return {
      get: (kind, key) => real.get(kind, key),
      list: (query) => real.list(query),
      put: async (query) => {
        writes += 1;
        if (writes > nth || (writes === nth && when === 'before')) throw new Cut();
        const revision = await real.put(query);
        if (writes === nth) throw new Cut();
        return revision;
      },
      remove: (query) => real.remove(query),
    };
  };

const create = async (rig: ModelRig, more: object = {}, process: ModelProcess = rig.main) =>
  process.engines.register({ ...ENGINE, ...more }, rig.now);
const version = (rig: ModelRig, name: string) => rig.main.engines.showVersion({ ...NAME, version: name });
const deploy = (rig: ModelRig, group: string, selector: object = {}, process = rig.main) =>
  rig.deploy(group, { engine_selector: { ...SELECTOR, ...selector } }, process);
const keys = async (rig: ModelRig) =>
  (await rig.main.store.documents.list({ kind: 'engine-version', limit: 100 })).map(({ key }) =>
    key.split('/').slice(0, 3).join('/'),
  );
const spec = async (rig: ModelRig, group: string) => {
  const record = await rig.main.store.registry.function(`model.${group}`);
  return { current: record?.current.spec.engine, staged: record?.staged?.spec.engine };
};

onEveryOpenedStore((open) => {
  const started = async (): Promise<ModelRig> => {
    const rig = new ModelRig(await open());
    await rig.main.models.register({
      ...{ name: 'house', body: IMPORTED, apiKeyId: 0, idempotencyKey: null, now: rig.now },
    });
    return rig;
  };

  it('the first version is the default, later ones where they say so', async () => {
    await using rig = await started();
    expect(await create(rig)).toMatchObject({ isNew: true, view: { version: '1', is_default: true } });
    expect((await create(rig, { version: '2' })).view.is_default).toBe(false);
    expect((await create(rig, { version: '3', is_default: true })).view.is_default).toBe(true);
    const shown = await rig.main.engines.show(NAME);
    expect(shown).toMatchObject({ default_version: '3', versions: ['1', '2', '3'] });
    expect((await version(rig, 'default')).version).toBe('3');
    await rig.main.engines.setDefault(NAME, { version: '2' }, rig.now);
    expect((await version(rig, 'default')).version).toBe('2');
    await expect(rig.main.engines.setDefault(NAME, { version: '9' }, rig.now)).rejects.toMatchObject({
      code: 'engine_not_found',
    });
  });

  it('the same body is the same version, in any order of its members; another body is refused', async () => {
    await using rig = await started();
    const env = { A: '1', B: '2' };
    await create(rig, { env });
    expect(await create(rig, { env: { B: '2', A: '1' }, port: 8080 })).toMatchObject({ isNew: false });
    await expect(create(rig, { env: { A: '1' } })).rejects.toMatchObject({ code: 'engine_version_exists' });
    expect(await keys(rig)).toEqual(['vision/onnx/1']);
    // Which one is the default is not what a version is.
    await create(rig, { version: '2' });
    expect(await create(rig, { version: '2', is_default: true })).toMatchObject({
      isNew: false,
      view: { is_default: true },
    });
  });

  it('versions that are registered at once through several processes are all there, each word once', async () => {
    await using rig = await started();
    const processes = [rig.main, rig.process(), rig.process()];
    const ends = await Promise.allSettled(
      Array.from({ length: 18 }, (_, i) =>
        create(rig, { version: `v${i % 6}`, port: 8000 + (i % 2) }, processes[i % 3]),
      ),
    );
    expect(ends.filter(({ status }) => status === 'rejected')).toEqual([]);
    const { versions } = await rig.main.engines.show(NAME);
    expect([...versions].sort()).toEqual(['v0', 'v1', 'v2', 'v3', 'v4', 'v5']);
    expect((await keys(rig)).sort()).toEqual([...versions].sort().map((one) => `vision/onnx/${one}`));
    const clashing = await Promise.allSettled(
      [8080, 8081].map((port, i) => create(rig, { version: 'w', port }, processes[i])),
    );
    expect(clashing.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const kept = clashing.findIndex(({ status }) => status === 'fulfilled');
    expect((await version(rig, 'w')).port).toBe([8080, 8081][kept]);
  });

  it.each([
    [1, 'before'],
    [1, 'after'],
    [2, 'before'],
    [2, 'after'],
  ] as const)(
    'a registration that is cut off at its write %i, %s it, is whole or not there',
    async (nth, when) => {
      await using rig = await started();
      await expect(create(rig, {}, rig.process(cutAt(nth, when)))).rejects.toThrow(Cut);
      const isThere = nth === 2 && when === 'after';
      if (isThere) expect((await version(rig, '1')).command).toEqual(ENGINE.command);
      else await expect(version(rig, '1')).rejects.toMatchObject({ code: 'engine_not_found' });
      expect((await create(rig)).isNew).toBe(!isThere);
      expect((await version(rig, '1')).command).toEqual(ENGINE.command);
      rig.now += DAY_MS;
      await rig.main.sweep.sweep();
      expect(await keys(rig)).toEqual(['vision/onnx/1']);
      expect((await version(rig, '1')).command).toEqual(ENGINE.command);
    },
  );

  it('deleting a version and deploying it cannot pass each other', async () => {
    await using rig = await started();
    const other = rig.process();
    const ends = { deployed: 0, deleted: 0 };
    for (let round = 0; round < 20; round += 1) {
      const word = `r${round}`;
      await create(rig, { version: word });
      const remove = () =>
        round % 2 === 0
          ? other.engines.remove(NAME)
          : other.engines.removeVersion({ ...NAME, version: word }, rig.now);
      const [deployed, deleted] = await Promise.allSettled([
        deploy(rig, `g${round}`, { version: word }),
        remove(),
      ]);
      expect([deployed.status, deleted.status].sort()).toEqual(['fulfilled', 'rejected']);
      if (deployed.status === 'fulfilled') {
        ends.deployed += 1;
        expect((deleted as PromiseRejectedResult).reason).toMatchObject({ code: 'engine_in_use' });
        expect((await version(rig, word)).used_by).toEqual([`g${round}`]);
        await rig.main.groups.remove(`g${round}`, false, rig.now);
        await remove();
      } else {
        ends.deleted += 1;
        expect(deployed.reason).toMatchObject({ code: 'engine_not_found' });
        // What was claimed of the model meanwhile is given back.
        expect((await rig.main.models.showVersion('house', '1')).used_by).toEqual([]);
      }
    }
    expect(ends.deployed + ends.deleted).toBe(20);
    expect(await keys(rig)).toEqual([]);
  });

  it('an update of the engine holds both versions until it took over, a rollback goes to the one before', async () => {
    await using rig = await started();
    await create(rig, { env: { GENERATION: 'one' } });
    await create(rig, { version: '2', env: { GENERATION: 'two' } });
    await deploy(rig, 'g');
    await rig.report('g', 1, [{}]);
    await rig.main.engines.setDefault(NAME, { version: '2' }, rig.now);
    await deploy(rig, 'g');
    expect(await spec(rig, 'g')).toMatchObject({
      current: { version: '1', env: { GENERATION: 'one' } },
      staged: { version: '2', env: { GENERATION: 'two' } },
    });
    const used = async () => [(await version(rig, '1')).used_by, (await version(rig, '2')).used_by];
    expect(await used()).toEqual([['g'], ['g']]);
    await expect(rig.main.engines.remove(NAME)).rejects.toMatchObject({ code: 'engine_in_use' });
    await rig.reportStaged('g', [{}]);
    await rig.main.rollouts.look('g');
    expect((await spec(rig, 'g')).current).toMatchObject({ version: '2' });
    expect(await used()).toEqual([[], ['g']]);
    // The selector has no version: what ran before is what is meant, and not the default of today.
    const back = await rig.main.groups.rollback('g', rig.now);
    expect(back.update).not.toBeNull();
    expect((await spec(rig, 'g')).staged).toMatchObject({ version: '1' });
    await rig.main.groups.rollback('g', rig.now);
    expect(await used()).toEqual([[], ['g']]);
    await rig.main.engines.removeVersion({ ...NAME, version: '1' }, rig.now);
    await expect(rig.main.groups.rollback('g', rig.now)).rejects.toMatchObject({
      code: 'no_earlier_version',
      message: expect.stringContaining('version 1 of the engine vision/onnx'),
    });
  });

  it('a deployment that was cut off is taken up with the engine that it claimed', async () => {
    await using rig = await started();
    await create(rig);
    await deploy(rig, 'g');
    await rig.main.store.registry.remove('model.g');
    await rig.main.rollouts.look('g');
    expect((await spec(rig, 'g')).current).toMatchObject({ project: 'vision', name: 'onnx', version: '1' });
  });

  it('a claim of a deployment that was cut off is taken back after an hour, others are not', async () => {
    await using rig = await started();
    await create(rig);
    await deploy(rig, 'g');
    // The model's claim is its first write, the engine's its second, the group's document its third.
    await expect(deploy(rig, 'cut', {}, rig.process(cutAt(3, 'before')))).rejects.toThrow(Cut);
    expect((await version(rig, '1')).used_by).toEqual(['g', 'cut']);
    rig.now += HOUR_MS;
    await rig.main.sweep.sweep();
    expect((await version(rig, '1')).used_by).toEqual(['g']);
  });

  it('an engine whose default was deleted has none until one is named, or comes', async () => {
    await using rig = await started();
    await create(rig);
    await create(rig, { version: '2' });
    await rig.main.engines.removeVersion({ ...NAME, version: 'default' }, rig.now);
    expect((await rig.main.engines.show(NAME)).default_version).toBeNull();
    await expect(deploy(rig, 'g')).rejects.toMatchObject({
      code: 'engine_not_found',
      message: expect.stringContaining('no default version'),
    });
    await deploy(rig, 'named', { version: '2' });
    expect((await create(rig, { version: '3' })).view.is_default).toBe(true);
    await rig.main.groups.remove('named', false, rig.now);
    await rig.main.engines.remove(NAME);
    await expect(rig.main.engines.show(NAME)).rejects.toMatchObject({ code: 'engine_not_found' });
    // A word that is free again may mean something else.
    expect((await create(rig, { port: 9000 })).view).toMatchObject({ version: '1', port: 9000 });
  });
});
