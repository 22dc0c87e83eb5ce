/** What only the embedded store promises: one process for a directory, its format, and files that say when they are damaged. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import { Segments } from '../../../shared/store/embedded/segments.ts';
import { canLook } from '../../../shared/store/embedded/tidying.ts';
import { LIMITS } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';

let root: string;
let directory: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'sluice-embedded-'));
  directory = path.join(root, 'deep', 'data');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const open = (changes: Partial<typeof LIMITS> = {}) =>
  openEmbeddedStore({ ...LIMITS, ...changes, directory, durability: 'fsync' });
const makeShop = async (changes: Partial<typeof LIMITS> = {}): Promise<Workshop> => {
  const shop = new Workshop({ open: () => open(changes), remove: () => Promise.resolve() });
  await shop.open();
  return shop;
};
const segmentFiles = (): string[] => readdirSync(path.join(directory, 'segments'));

describe('a data directory', () => {
  it('is made for its owner only', async () => {
    const server = await open();
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(statSync(path.join(directory, 'sluice.db')).mode & 0o777).toBe(0o600);
    await server.close();
    await server.close();
  });

  it('is owned by one process, and free again when that is gone', async () => {
    const server = await open();
    const clash = { message: expect.stringContaining(directory) };
    await expect(open()).rejects.toMatchObject(clash);
    const module = path.resolve(import.meta.dirname, '../../../shared/store/embedded/index.ts');
    const options = JSON.stringify({ ...LIMITS, directory, durability: 'fsync' });
    const script = `import { openEmbeddedStore } from ${JSON.stringify(module)};
      await openEmbeddedStore(${options}).catch((error) => console.log(error.message));
      process.kill(process.pid, 'SIGKILL');`;
    const tryIt = () =>
      spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(tryIt().stdout).toContain('Another process owns the data directory');
    await server.close();
    expect(tryIt().stdout).toBe('');
    await (await open()).close();
  });

  it('forgets parts of a document whose writing was cut off', async () => {
    const shop = await makeShop();
    const put = { kind: 'model', key: 'a', revision: null, value: 'x'.repeat(5_000_000) } as const;
    const revision = await shop.store.documents.put(put);
    await shop.close();
    const inDatabase = <T>(work: (db: DatabaseSync) => T): T => {
      const db = new DatabaseSync(path.join(directory, 'sluice.db'));
      const found = work(db);
      db.close();
      return found;
    };
    const parts = (db: DatabaseSync) => db.prepare('SELECT count(*) AS n FROM document_parts').get()?.n;
    expect(inDatabase(parts)).toBe(3);
    inDatabase((db) =>
      db.exec('INSERT INTO document_parts SELECT id + 64, bytes FROM document_parts WHERE id % 64 < 2'),
    );
    expect(inDatabase(parts)).toBe(5);
    await shop.open();
    expect(await shop.store.documents.get('model', 'a')).toMatchObject({ revision, value: put.value });
    await shop.close();
    expect(inDatabase(parts)).toBe(3);
  });

  it('writes its log over when that is long, in place of on', async () => {
    const limitBytes = 2 ** 24;
    const shop = await makeShop({ limitBytes });
    const logBytes = () => statSync(path.join(directory, 'sluice.db-wal')).size;
    const checkpoints = async () => Number((await shop.store.counters()).checkpoints);
    const untilCheckpoints = async (count: number) => {
      while ((await checkpoints()) < count) await shop.admit(1);
    };
    await untilCheckpoints(1);
    const length = logBytes();
    await shop.admit(1);
    expect([length > limitBytes / 16, logBytes()]).toEqual([true, length]);
    await untilCheckpoints(3);
    expect(logBytes()).toBeLessThan(length * 1.5);
    await shop.close();
  });

  it('has room again when what filled it is swept, however long its log was', async () => {
    const limitBytes = 2 ** 24;
    const shop = await makeShop({ limitBytes, retentionMs: 1000 });
    const ids = await Promise.all(Array.from({ length: 260 }, () => shop.admit(1)));
    const batches = [];
    for (const id of ids) batches.push(await shop.run([id, 0, 1]));
    // Results that lie in the tables come in a few commits, which no look at the log is between.
    await Promise.allSettled(batches.map((batch) => shop.settleOk(batch, 60_000)));
    shop.now += 10_000;
    while (await shop.store.retention.sweep({ now: shop.now, limit: 1000 }));
    for (let n = 0; n < 300; n += 1) await shop.admit(1).catch(() => 0);
    expect(await shop.admit(1)).toBeGreaterThan(0);
    const { databaseBytes } = await shop.store.retention.usage();
    expect(databaseBytes).toBeLessThan(limitBytes / 2);
    await shop.close();
  });

  it('of another format is refused with the way out', async () => {
    await (await open()).close();
    const db = new DatabaseSync(path.join(directory, 'sluice.db'));
    db.exec("UPDATE meta SET value = 99 WHERE name = 'format'");
    db.close();
    await expect(open()).rejects.toThrow(/has format 99.*--data/);
  });

  it('serves threads that attach with a ticket', async () => {
    const shop = await makeShop();
    const id = await shop.admit(1);
    const { data, transfer } = shop.server.ticket();
    const attach = path.resolve(import.meta.dirname, '../../../shared/store/attach.ts');
    const script = `const { workerData, parentPort } = require('node:worker_threads');
      import(${JSON.stringify(attach)}).then(async ({ attachStore }) => {
        const store = await attachStore(workerData);
        parentPort.postMessage(await store.queue.call(${id}));
        await store.close();
      });`;
    const worker = new Worker(script, { eval: true, workerData: data, transferList: [...transfer] });
    const seen = await new Promise((resolve) => worker.once('message', resolve));
    expect(seen).toEqual(await shop.call(id));
    await shop.close();
  });

  it('refuses what is asked after its end', async () => {
    const shop = await makeShop();
    await shop.server.close();
    await expect(shop.call(1)).rejects.toMatchObject({ code: 'shutting_down' });
    await expect(shop.admit(1)).rejects.toMatchObject({ code: 'shutting_down' });
  });
});

/** Turns a byte around in the middle of the only segment. */
const damage = (): void => {
  const [name] = segmentFiles();
  const file = path.join(directory, 'segments', name!);
  const bytes = readFileSync(file);
  bytes[Math.floor(bytes.length / 2)]! ^= 0xff;
  writeFileSync(file, bytes);
};

describe('a damaged segment', () => {
  it('fails the rows of its payload, and only those', async () => {
    const shop = await makeShop();
    const bytes = new Uint8Array(100_000).fill(7);
    const bad = await shop.admit(1, { bytes: bytes.length, payload: { kind: 'arrow', bytes } });
    const good = await shop.admit(1);
    await shop.seal([bad, 0, 1], [good, 0, 1]);
    await shop.close();
    damage();
    await shop.open();
    const batch = await shop.leaseOne();
    expect(batch.slices.map(({ callId }) => callId)).toEqual([good]);
    await shop.settleOk(batch);
    expect(await shop.call(good)).toMatchObject({ status: 'completed' });
    expect((await shop.result(bad)).parts).toMatchObject([{ state: 'failed', error: { code: 'internal' } }]);
    await shop.close();
  });

  it('that is missing fails its rows as well, and harms nothing else', async () => {
    const shop = await makeShop();
    const bytes = new Uint8Array(100_000).fill(7);
    const bad = await shop.admit(1, { bytes: bytes.length, payload: { kind: 'arrow', bytes } });
    await shop.seal([bad, 0, 1]);
    await shop.close();
    rmSync(path.join(directory, 'segments', segmentFiles()[0]!));
    await shop.open();
    expect(await shop.lease()).toEqual([]);
    expect((await shop.result(bad)).parts).toMatchObject([{ state: 'failed', error: { code: 'internal' } }]);
    await shop.close();
  });

  it('says so when it holds an output', async () => {
    const shop = await makeShop();
    const id = await shop.admit(1);
    await shop.settleOk(await shop.run([id, 0, 1]), 100_000);
    await shop.close();
    damage();
    await shop.open();
    await expect(shop.result(id)).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('damaged'),
    });
    expect(await shop.call(id)).toMatchObject({ status: 'completed' });
    await shop.close();
  });
});

const HOUR_MS = 3_600_000;

describe('segments', () => {
  const make = (): Segments => {
    mkdirSync(directory, { recursive: true });
    return new Segments(directory, true);
  };

  it('give back what was appended, also after a restart and beside a torn tail', () => {
    const [first, second] = [new Uint8Array(1000).fill(1), new Uint8Array(70_000).fill(2)];
    const segments = make();
    const refs = [segments.append(first, 0), segments.append(second, 0)];
    segments.sync();
    segments.close();
    const file = path.join(directory, 'segments', '1.seg');
    writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.from('torn')]));
    const again = make();
    expect(Buffer.compare(again.read(refs[0]!), first)).toBe(0);
    expect(Buffer.compare(again.read(refs[1]!), second)).toBe(0);
    expect(again.append(first, 0).segment).toBe(2);
    again.close();
  });

  it('are cut by the hour and by size, and go when nothing refers to them', () => {
    const segments = make();
    const bytes = new Uint8Array(100);
    const [a, b, c] = [
      segments.append(bytes, 0),
      segments.append(bytes, HOUR_MS - 1),
      segments.append(bytes, HOUR_MS),
    ];
    expect([a.segment, b.segment, c.segment]).toEqual([1, 1, 2]);
    for (const { segment } of [a, b, c]) segments.refer(segment, 1);
    segments.refer(a.segment, -1);
    expect(segments.recycle(() => undefined)).toBe(0);
    segments.refer(b.segment, -1);
    expect(segments.recycle(() => undefined)).toBe(1);
    expect(segmentFiles()).toEqual(['2.seg']);
    segments.refer(c.segment, -1);
    // The file that is written to stays.
    expect(segments.recycle(() => undefined)).toBe(0);
    segments.cut();
    expect(segments.recycle(() => undefined)).toBe(1);
    expect(segments.bytes).toBe(0);
    const large = new Uint8Array(130 * 2 ** 20);
    expect(segments.append(large, HOUR_MS).segment).toBe(3);
    expect(segments.append(large, HOUR_MS).segment).toBe(4);
    segments.close();
  });

  it('name the place of a damaged record', () => {
    const segments = make();
    const ref = segments.append(new Uint8Array(1000), 0);
    segments.sync();
    expect(() => segments.read({ ...ref, length: 999 })).toThrow(/Record at 0 of .*1\.seg is damaged/);
    expect(() => segments.read({ ...ref, at: 10 })).toThrow(/damaged/);
    segments.close();
  });
});

describe('a call that was not written', () => {
  it('leaves no payload in memory that the next call of its id would get', async () => {
    const shop = await makeShop();
    const before = await shop.admit(1);
    const bytes = new Uint8Array(100_000).fill(7);
    const broken = shop.admit(1, { bytes: Number.NaN, payload: { kind: 'arrow', bytes } });
    await expect(broken).rejects.toThrow(/bug/);
    const text = JSON.stringify([['x'.repeat(100_000)]]);
    const id = await shop.admit(1, { bytes: text.length, payload: { kind: 'json', text } });
    expect(id).toBe(before + 1);
    const batch = await shop.run([id, 0, 1]);
    expect(batch.calls[0]!.payload).toEqual({ kind: 'json', text });
    await shop.close();
  });
});

describe('a segment that somebody removed', () => {
  it('is forgotten when nothing refers to it any more', () => {
    mkdirSync(directory, { recursive: true });
    const segments = new Segments(directory, false);
    segments.append(new Uint8Array(10), 0);
    segments.cut();
    for (const name of segmentFiles()) rmSync(path.join(directory, 'segments', name));
    expect(segments.recycle(() => undefined)).toBe(1);
    expect(segments.files).toBe(0);
  });
});

it('looks at its log only where SQLite knows a look from a checkpoint', () => {
  expect(['3.50.4', '3.51.0', '3.53.4', '4.0.0', ''].map(canLook)).toEqual([false, true, true, true, false]);
  expect(canLook(process.versions.sqlite!)).toBe(true);
});
