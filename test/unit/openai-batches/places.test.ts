/** Batches of which more are unfinished than a runner has places. */
import { expect, it } from 'vitest';
import { Batches } from '../../../services/batches/batch-records.ts';
import { compileSpec } from '../../../shared/wire/spec.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';
import { eventually } from '../../support/sluice-process.ts';
import {
  answerAll,
  askedOf,
  callsWait,
  ended,
  lineOf,
  linesIn,
  order,
  runnerRig,
  runOf,
  SPEC,
  upload,
} from './runner-rig.ts';

onEveryOpenedStore((openStore) => {
  const { open, runnerOf } = runnerRig(openStore);

  it('of a function that nobody runs keep no place from others, and go on when somebody does', async () => {
    const { store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const file = await upload(store, artifacts, lineOf(1), Date.now());
    const stuck = await Promise.all(Array.from({ length: 8 }, () => order(store, file)));
    let skewMs = 0;
    await runnerOf(store, artifacts, () => Date.now() + skewMs);
    await callsWait(store, record.current.id, 8);
    const refused = await upload(store, artifacts, askedOf(1, { model: 'nobody', input: 'a' }), Date.now());
    const { id } = await order(store, refused);
    skewMs = 31_000;
    expect((await ended(store, id)).counts).toEqual({ total: 1, completed: 0, failed: 1 });
    await answerAll(store, record.current.id);
    for (const one of stuck) expect((await ended(store, one.id)).counts.completed).toBe(1);
    const query = { functionName: 'embed', status: null, apiKeyId: null, before: null, limit: 100 };
    expect((await store.queue.list(query)).calls).toHaveLength(8);
  });

  it('that wait for a place hear that they are cancelled, and that their window ends', async () => {
    const { store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const file = await upload(store, artifacts, lineOf(1), Date.now());
    for (let i = 0; i < 8; i += 1) await order(store, file);
    let skewMs = 0;
    await runnerOf(store, artifacts, () => Date.now() + skewMs);
    await callsWait(store, record.current.id, 8);
    const [cancelled, expired] = [await order(store, file), await order(store, file, '10s')];
    await new Batches(store.documents).cancel(cancelled.id, { id: 1, isAdmin: false }, Date.now());
    expect((await ended(store, cancelled.id, 'cancelled')).counts.completed).toBe(0);
    skewMs = 11_000;
    const { counts, errorFileId } = await ended(store, expired.id, 'expired');
    expect(counts).toEqual({ total: 1, completed: 0, failed: 1 });
    expect(await linesIn(store, artifacts, errorFileId)).toMatchObject([
      { error: { code: 'batch_expired' } },
    ]);
  });

  it('of one key leave places for those of another', async () => {
    const { store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const file = await upload(store, artifacts, lineOf(1), Date.now());
    const many = await Promise.all(Array.from({ length: 9 }, () => order(store, file)));
    await runnerOf(store, artifacts);
    await callsWait(store, record.current.id, 8);
    const refused = await upload(store, artifacts, askedOf(1, { model: 'nobody', input: 'a' }), Date.now());
    expect((await ended(store, (await order(store, refused, '1d', 2)).id)).counts.failed).toBe(1);
    await answerAll(store, record.current.id);
    await eventually('all of the first key are answered', async () => {
      await answerAll(store, record.current.id);
      const found = await Promise.all(many.map(({ id }) => runOf(store, id)));
      return found.every((run) => run === undefined);
    });
    for (const { id } of many) expect((await ended(store, id)).counts.completed).toBe(1);
    const query = { functionName: 'embed', status: null, apiKeyId: null, before: null, limit: 100 };
    expect((await store.queue.list(query)).calls).toHaveLength(9);
  });
});
