/** What the function routes ask of the store. */
import { expect, it } from 'vitest';
import { Catalogue } from '../../../services/registry/catalogue.ts';
import { Functions } from '../../../services/registry/functions.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { ModelRig } from '../../support/model-rig.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

onEveryOpenedStore((open) => {
  it('is nothing of all functions to change or show one', async () => {
    await using rig = new ModelRig(await open());
    const { store } = rig.main;
    const all: string[] = [];
    const registry = new Proxy(store.registry, {
      get: (target, name) => {
        if (name === 'functions' || name === 'load') all.push(name);
        const verb = Reflect.get(target, name);
        return typeof verb === 'function' ? verb.bind(target) : verb;
      },
    });
    const counted = Object.create(store, { registry: { value: registry } }) as Store;
    const catalogue = new Catalogue(counted, silentLog());
    await catalogue.start();
    expect(all.splice(0)).toEqual(['functions']);
    const functions = new Functions(
      counted,
      catalogue,
      async () => undefined,
      async () => undefined,
    );
    const spec = {
      ...{ name: 'f', runtime: 'python', handler: { file: 'f.py', attribute: 'f' }, input_mode: 'columns' },
      inputs: [{ name: 'x', type: 'int64', nullable: false }],
      output: { type: 'int64', nullable: true },
      source: [{ path: 'f.py', content: 'Zg==' }],
    };
    expect((await functions.deploy(spec)).created).toBe(true);
    await functions.update('f', { max_batching_size: 3 });
    await functions.pause('f', true);
    expect(await functions.show('f')).toMatchObject({ paused: true, queue: { waiting_rows: 0 } });
    await functions.remove('f');
    expect(all).toEqual([]);
    catalogue.stop();
  });
});
