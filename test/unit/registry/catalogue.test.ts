/** What a thread knows of the functions. */
import { expect, it } from 'vitest';
import { Catalogue } from '../../../services/registry/catalogue.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { PLAIN_SPEC } from '../../support/function-spec.ts';
import { ModelRig } from '../../support/model-rig.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

onEveryOpenedStore((open) => {
  it('is everything but their source, of which there may be 64 MiB a version', async () => {
    await using rig = new ModelRig(await open());
    const { store } = rig.main;
    const source = [{ path: 'a.py', content: Buffer.from('x = 1').toString('base64') }];
    const specs = [1, 2].map((callTimeoutMs) => ({ ...PLAIN_SPEC, callTimeoutMs, source }));
    await store.registry.deploy({ now: rig.now, spec: specs[0]! });
    const catalogue = new Catalogue(store, silentLog());
    await catalogue.start();
    await store.registry.deploy({ now: rig.now, spec: specs[1]!, isStaged: true });
    await catalogue.refresh('f');
    const { current, staged, versions } = catalogue.known('f')!;
    expect(versions.map(({ spec }) => spec)).toEqual(
      [specs[1], specs[0]].map((spec) => ({ ...spec, source: [] })),
    );
    expect([staged, current]).toEqual(versions);
    expect((await catalogue.version('f', current.id))?.spec.source).toEqual([]);
    catalogue.stop();
  });

  it('does not take a new version for one that went and had its number', async () => {
    await using rig = new ModelRig(await open());
    const { store } = rig.main;
    const [first, second, third] = [1, 2, 3].map((callTimeoutMs) => ({ ...PLAIN_SPEC, callTimeoutMs }));
    const deploy = async (spec = first!, isStaged = false) =>
      (await store.registry.deploy({ now: rig.now++, spec, isStaged })).record;
    await deploy();
    const { digest } = (await deploy(second, true)).staged!;
    // Notifications get lost: what it knows is what it read.
    const queue = { value: { watch: () => () => undefined } };
    const catalogue = new Catalogue(Object.create(store, { queue }) as Store, silentLog());
    await catalogue.start();
    await store.registry.settleStaged({ now: rig.now++, name: 'f', digest, end: 'drop' });
    await store.retention.sweep({ now: rig.now, limit: 10 });
    await catalogue.refresh('f');
    const { current } = await deploy(third);
    expect((await catalogue.version('f', current.id))?.spec.callTimeoutMs).toBe(3);
    catalogue.stop();
  });

  it('looks at each of many functions a few times when it reads them all', async () => {
    await using rig = new ModelRig(await open());
    const { store } = rig.main;
    const { record } = await store.registry.deploy({ now: rig.now, spec: PLAIN_SPEC });
    let looks = 0;
    const many = Array.from({ length: 5000 }, (_, index) => ({
      ...record,
      id: index + 2,
      name: `f${index}`,
      get versions() {
        looks += 1;
        return [{ ...record.current, id: record.current.id + index + 1 }];
      },
    }));
    const registry = { value: { ...store.registry, functions: async () => many } };
    const catalogue = new Catalogue(Object.create(store, { registry }) as Store, silentLog());
    await catalogue.start();
    expect(catalogue.all()).toHaveLength(many.length);
    expect(looks).toBeLessThan(10 * many.length);
    catalogue.stop();
  });
});
