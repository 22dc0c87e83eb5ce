/** A data directory that an earlier Sluice wrote. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FunctionRecord } from '../../../shared/domain/function.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import { openEmbeddedSource } from '../../../shared/store/embedded/transfer-source.ts';
import { LIMITS } from '../../contract/factory.ts';
import { START, specOf, Workshop } from '../../contract/workshop.ts';

const FORMAT_1 = readFileSync(
  path.resolve(import.meta.dirname, '../../fixtures/data-directory-1.sql'),
  'utf8',
);

let directory: string;
const withDatabase = <T>(work: (db: DatabaseSync) => T): T => {
  const db = new DatabaseSync(path.join(directory, 'sluice.db'));
  try {
    return work(db);
  } finally {
    db.close();
  }
};
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-upgrade-'));
  mkdirSync(path.join(directory, 'segments'));
  // `sqlite_sequence` comes with the first table that needs it.
  withDatabase((db) => db.exec(FORMAT_1));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = () => openEmbeddedStore({ ...LIMITS, directory, durability: 'fsync' });
const formatOf = (db: DatabaseSync) =>
  db.prepare("SELECT value FROM meta WHERE name = 'format'").get()?.value;
const tablesOf = (db: DatabaseSync) =>
  (
    db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all() as {
      name: string;
    }[]
  ).map(({ name }) => name);

describe('a data directory of format 1', () => {
  it('is upgraded where it lies, and goes on', async () => {
    await using shop = new Workshop({ open, remove: async () => undefined });
    shop.server = await open();
    shop.store = shop.server.connect();
    const { registry, documents, keys, queue } = shop.store;
    expect(await registry.functions()).toMatchObject([
      { name: 'f', current: { digest: '78d6b292d5c4' }, versions: [{}, {}], staged: null, scaling: null },
      { name: 'g', paused: true, current: { spec: { batching: { sizeRows: 7 } } } },
    ]);
    const [{ current }] = (await registry.functions()) as [FunctionRecord];
    expect(current.spec.source).toEqual([]);
    expect(await registry.source(current.id)).toEqual(specOf('f').source);
    expect(await keys.find('hash')).toMatchObject({ id: 1, name: 'k' });
    expect(await queue.call(1)).toMatchObject({ status: 'completed', counts: { ok: 2 } });
    expect(await queue.call(2)).toMatchObject({ status: 'pending', rows: 3, lane: 'l' });
    // The same spec is the same version.
    expect(await registry.deploy({ now: START, spec: specOf('f') })).toMatchObject({ created: false });
    const spec = specOf('f', { callTimeoutMs: 3000 });
    expect((await registry.deploy({ now: START, spec, isStaged: true })).record.staged).not.toBeNull();
    expect(await documents.put({ kind: 'model', key: 'm', revision: null, value: 1 })).toBe(1);
    shop.versionId = 1;
    await shop.own('f');
    await shop.settleOk(await shop.leaseOne());
    await shop.settleOk(await shop.run([2, 1, 2]));
    await shop.reopen();
    expect(await shop.call(2)).toMatchObject({ status: 'completed', counts: { ok: 3 } });
    expect(await shop.store.documents.get('model', 'm')).toEqual({ key: 'm', revision: 1, value: 1 });
    await shop.close();
    expect(withDatabase(formatOf)).toBe(3);
  });

  it('has what a new one has when it is upgraded', async () => {
    await (await open()).close();
    const columns = (db: DatabaseSync) =>
      tablesOf(db).map((table) => [table, db.prepare(`PRAGMA table_info(${table})`).all()]);
    const upgraded = withDatabase(columns);
    rmSync(directory, { recursive: true });
    await (await open()).close();
    expect(upgraded).toEqual(withDatabase(columns));
  });

  it('stays what it was when its upgrade fails', async () => {
    withDatabase((db) => db.exec('CREATE TABLE document_parts(x)'));
    await expect(open()).rejects.toThrow(/document_parts already exists/);
    expect(withDatabase(formatOf)).toBe(1);
    expect(withDatabase(tablesOf)).not.toContain('documents');
    withDatabase((db) => db.exec('DROP TABLE document_parts'));
    await (await open()).close();
    expect(withDatabase(formatOf)).toBe(3);
  });

  it('keeps the source of versions that format 2 had in their specs', async () => {
    await (await open()).close();
    withDatabase((db) =>
      db.exec(`UPDATE versions SET spec = json_set(spec, '$.source', json(source)) FROM version_sources WHERE version = id;
        DROP TABLE version_sources; UPDATE meta SET value = 2 WHERE name = 'format'`),
    );
    await using shop = new Workshop({ open, remove: async () => undefined });
    shop.server = await open();
    shop.store = shop.server.connect();
    const { registry } = shop.store;
    const [{ current }] = (await registry.functions()) as [FunctionRecord];
    expect(current.spec.source).toEqual([]);
    expect(await registry.source(current.id)).toEqual(specOf('f').source);
    expect(await registry.deploy({ now: START, spec: specOf('f') })).toMatchObject({ created: false });
  });

  it('may be moved at once', async () => {
    const source = openEmbeddedSource(directory);
    const head = await source.begin({ now: START, to: 'embedded:/x' });
    expect(head?.functions).toMatchObject([{ name: 'f', staged: null, scaling: null }, { name: 'g' }]);
    await source.close();
  });
});
