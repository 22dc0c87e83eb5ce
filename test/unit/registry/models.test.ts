/** The rules of the registry on real stores: numbers, what is cut off, who passes whom, and what goes by itself. */
import { expect, it } from 'vitest';
import type { Models } from '../../../services/registry/models.ts';
import type { Documents } from '../../../shared/store/ports/documents.ts';
import { PLAIN_SPEC } from '../../support/function-spec.ts';
import { REGISTRATION } from '../../support/model-registration.ts';
import { ModelRig } from '../../support/model-rig.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

class Cut extends Error {}

/** The process dies before its n-th write. */
const cutBefore =
  (nth: number) =>
  (real: Documents): Documents => {
    let writes = 0;
    return {
      get: (kind, key) => real.get(kind, key),
      list: (query) => real.list(query),
      put: (query) => {
        writes += 1;
        return writes >= nth ? Promise.reject(new Cut()) : real.put(query);
      },
      remove: (query) => real.remove(query),
    };
  };

const request = (rig: ModelRig, idempotencyKey: string | null, more: object = {}) => ({
  ...{ name: 'house', body: { ...REGISTRATION, ...more }, apiKeyId: 1, idempotencyKey, now: rig.now },
});
const versionsOf = async (models: Models): Promise<readonly number[]> =>
  (await models.show('house')).versions;

onEveryOpenedStore((open) => {
  it('counts the models for many new ones at once, and again later', async () => {
    await using rig = new ModelRig(await open());
    let counts = 0;
    const process = rig.process((real) => ({
      get: (kind, key) => real.get(kind, key),
      put: (query) => real.put(query),
      remove: (query) => real.remove(query),
      list: (query) => {
        if (query.kind === 'model') counts += 1;
        return real.list(query);
      },
    }));
    for (const name of ['a', 'b', 'c', 'd']) await rig.register(name, {}, process);
    expect(counts).toBe(1);
    rig.now += HOUR_MS;
    for (const name of ['a', 'e', 'f']) await rig.register(name, {}, process);
    expect(counts).toBe(2);
  });

  it('versions that are registered at once through several processes get a number each', async () => {
    await using rig = new ModelRig(await open());
    const processes = [rig.main, rig.process(), rig.process()];
    const numbers = await Promise.all(
      Array.from({ length: 15 }, (_, i) => rig.register('house', {}, processes[i % 3])),
    );
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 15 }, (_, i) => i + 1));
    expect(await versionsOf(rig.main.models)).toHaveLength(15);
  });

  it.each([1, 2, 3])(
    'a registration that is cut off at its write %i is not there, and is finished by the same key',
    async (nth) => {
      await using rig = new ModelRig(await open());
      await rig.register('house');
      const dying = rig.process(cutBefore(nth)).models;
      await expect(dying.register(request(rig, 'k', { stage: 'x' }))).rejects.toThrow(Cut);
      expect(await versionsOf(rig.main.models)).toEqual([1]);
      expect((await rig.main.models.showVersion('house', 'latest')).version).toBe(1);
      await expect(rig.main.models.showVersion('house', '2')).rejects.toThrow(
        /has no version.*2.*; there is 1/,
      );
      const { isNew, view } = await rig.main.models.register(request(rig, 'k', { stage: 'x' }));
      expect([isNew, view.version, view.stage]).toEqual([true, 2, 'x']);
      expect(await versionsOf(rig.main.models)).toEqual([1, 2]);
    },
  );

  it('a number that was taken and left is skipped', async () => {
    await using rig = new ModelRig(await open());
    await rig.register('house');
    const dying = rig.process(cutBefore(3)).models;
    await expect(dying.register(request(rig, null))).rejects.toThrow(Cut);
    expect(await rig.register('house')).toBe(3);
    expect((await rig.main.models.versions('house', 10, null)).map(({ version }) => version)).toEqual([3, 1]);
    await expect(rig.deploy('g', { version: 2 })).rejects.toThrow(/no version 2/);
  });

  it('a key is forgotten after a day, and belongs to one API key', async () => {
    await using rig = new ModelRig(await open());
    const { models } = rig.main;
    await models.register(request(rig, 'k'));
    expect((await models.register({ ...request(rig, 'k'), apiKeyId: 2 })).view.version).toBe(2);
    rig.now += DAY_MS;
    expect((await models.register(request(rig, 'k', { stage: 'y' }))).view.version).toBe(3);
  });

  it('deleting a version and deploying it cannot pass each other', async () => {
    await using rig = new ModelRig(await open());
    const other = rig.process();
    const ends = { deployed: 0, deleted: 0 };
    for (let round = 0; round < 20; round += 1) {
      const version = await rig.register('house');
      const isWhole = round % 2 === 0;
      const remove = isWhole
        ? () => other.models.remove('house', rig.now)
        : () => other.models.removeVersion('house', String(version), rig.now);
      const [deployed, deleted] = await Promise.allSettled([rig.deploy(`g${round}`, { version }), remove()]);
      expect([deployed.status, deleted.status].sort()).toEqual(['fulfilled', 'rejected']);
      if (deployed.status === 'fulfilled') {
        ends.deployed += 1;
        expect((deleted as PromiseRejectedResult).reason).toMatchObject({ code: 'model_deployed' });
        expect((await rig.main.models.showVersion('house', String(version))).used_by).toEqual([`g${round}`]);
        await rig.main.groups.remove(`g${round}`, false, rig.now);
        await remove();
      } else {
        ends.deleted += 1;
        expect(deployed.reason).toMatchObject({ code: 'model_not_found' });
        await expect(rig.show(`g${round}`)).rejects.toThrow(/no scaling group/);
      }
    }
    expect(ends.deployed + ends.deleted).toBe(20);
  });

  it('what a version, a group or a running function names stays, all else goes after a day', async () => {
    await using rig = new ModelRig(await open());
    const [kept, gone, never, image, own] = await Promise.all(
      ['kept', 'gone', 'never', 'image', 'own'].map((text) => rig.upload(text)),
    );
    await rig.register('house', { files: [{ path: 'a', ...kept! }] });
    await rig.register('house', { files: [{ path: 'a', ...gone! }] });
    const containerfile = 'FROM scratch';
    await rig.register('box', { image: { containerfile, context: [{ path: 'a', ...image! }] } });
    const context = [{ path: 'a', ...own! }];
    await rig.deploy('g', { model: 'box', image: { containerfile, context } });
    await rig.main.models.removeVersion('house', '2', rig.now);
    const isThere = async () =>
      Promise.all([kept, gone, never, image, own].map(async (one) => (await listed()).has(one!.digest)));
    const listed = async () => {
      const digests = new Set<string>();
      for await (const { digest } of rig.artifacts.list()) digests.add(digest);
      return digests;
    };
    rig.now += HOUR_MS;
    expect(await rig.main.sweep.sweep()).toMatchObject({ artifacts: 0 });
    rig.now += DAY_MS;
    expect(await rig.process().sweep.sweep()).toMatchObject({ artifacts: 2 });
    expect(await isThere()).toEqual([true, false, false, true, true]);
    // Within the hour another process does not do it again.
    expect(await rig.main.sweep.sweep()).toBeNull();
  });

  it('the files of what a group runs stay when calls of it wait, and go when nothing needs them', async () => {
    await using rig = new ModelRig(await open());
    const [one, two] = [await rig.upload('one'), await rig.upload('two')];
    await rig.register('house', { files: [{ path: 'a', ...one }] });
    await rig.register('house', { files: [{ path: 'a', ...two }] });
    await rig.deploy('g', { version: 1 });
    await rig.deploy('g', { version: 2 });
    await rig.report('g', 2, [{}]);
    await rig.report('g', 1, [{}]);
    await rig.main.rollouts.look('g');
    expect(await rig.running('g')).toEqual([2, null]);
    await rig.main.models.removeVersion('house', '1', rig.now);
    rig.now += 2 * DAY_MS;
    const { registry } = rig.main.store;
    const old = (await registry.function('model.g'))!.versions.find(({ spec }) => spec.model!.version === 1)!;
    const told = {
      workerId: 'w',
      versionId: old.id,
      ready: 0,
      starting: 0,
      failed: 0,
      reason: null,
      ignored: [],
    };
    await registry.report({ now: rig.now, report: { ...told, until: rig.now + HOUR_MS * 3 } });
    expect(await rig.main.sweep.sweep()).toMatchObject({ artifacts: 0 });
    await registry.report({ now: rig.now, report: { ...told, until: rig.now } });
    rig.now += HOUR_MS;
    expect(await rig.main.sweep.sweep()).toMatchObject({ artifacts: 1 });
  });

  it('superseded versions of functions go beyond the newest twenty, but for what a group goes back to', async () => {
    await using rig = new ModelRig(await open());
    await rig.register('house');
    const { registry } = rig.main.store;
    const deploy = async (name: string, callTimeoutMs: number): Promise<void> => {
      rig.now += 1;
      await registry.deploy({ now: rig.now, spec: { ...PLAIN_SPEC, name, callTimeoutMs } });
    };
    const timeoutsOf = async (name: string) =>
      (await registry.function(name))!.versions
        .map(({ spec }) => spec.callTimeoutMs)
        .toSorted((a, b) => a - b);
    for (let i = 1; i <= 25; i += 1) await deploy('f', i);
    await deploy('few', 1);
    await deploy('few', 2);
    await rig.deploy('g', { call_timeout_ms: 100 });
    await rig.deploy('g', { call_timeout_ms: 101 });
    await rig.reportStaged('g', [{}]);
    await rig.main.rollouts.look('g');
    for (let i = 1; i <= 21; i += 1) await deploy('model.g', 200 + i);
    for (let sweep = 0; sweep < 3; sweep += 1) {
      rig.now += DAY_MS * 2;
      expect(await rig.main.sweep.sweep()).not.toBeNull();
    }
    expect(await timeoutsOf('f')).toEqual(Array.from({ length: 20 }, (_, i) => i + 6));
    expect(await timeoutsOf('few')).toEqual([1, 2]);
    expect(await timeoutsOf('model.g')).toEqual([100, 101, ...Array.from({ length: 20 }, (_, i) => i + 202)]);
  });

  it('a claim of a deployment that was cut off is taken back after an hour, others are not', async () => {
    await using rig = new ModelRig(await open());
    await rig.register('house');
    await rig.deploy('g', { version: 1 });
    // The claim is the first write of a deployment, the group's document the second.
    await expect(rig.deploy('cut', { version: 1 }, rig.process(cutBefore(2)))).rejects.toThrow(Cut);
    const usedBy = async () => (await rig.main.models.showVersion('house', '1')).used_by;
    expect(await usedBy()).toEqual(['g', 'cut']);
    rig.now += HOUR_MS;
    await rig.main.sweep.sweep();
    expect(await usedBy()).toEqual(['g']);
  });

  it('the document of a version that nothing names goes after a day, the numbers of a model a month after it', async () => {
    await using rig = new ModelRig(await open());
    const { documents } = rig.main.store;
    await rig.register('house');
    await expect(rig.process(cutBefore(3)).models.register(request(rig, null))).rejects.toThrow(Cut);
    const keys = async () =>
      (await documents.list({ kind: 'model-version', limit: 10 })).map(({ key }) => key);
    expect(await keys()).toEqual(['house/0000000001', 'house/0000000002']);
    rig.now += DAY_MS;
    await rig.main.sweep.sweep();
    expect(await keys()).toEqual(['house/0000000001']);
    await rig.main.models.remove('house', rig.now);
    expect(await keys()).toEqual([]);
    rig.now += 30 * DAY_MS;
    await rig.main.sweep.sweep();
    expect(await documents.list({ kind: 'model', limit: 10 })).toHaveLength(1);
    rig.now += HOUR_MS;
    await rig.main.sweep.sweep();
    expect(await documents.list({ kind: 'model', limit: 10 })).toHaveLength(0);
  });
});
