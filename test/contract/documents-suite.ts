import { expect, it } from 'vitest';
import { DOCUMENT_BYTES_MAX, DOCUMENT_KEY_MAX, type Documents } from '../../shared/store/ports/documents.ts';
import type { StoreFactory } from './factory.ts';
import { LIMITS } from './factory.ts';
import { Workshop } from './workshop.ts';

const KIND = 'model';

/** Writes it whatever it was, and gives its revision. */
const set = async (documents: Documents, key: string, value: unknown): Promise<number> => {
  const found = await documents.get(KIND, key);
  return (await documents.put({ kind: KIND, key, revision: found?.revision ?? null, value }))!;
};

/** A value whose JSON has that many bytes, about; its ends tell whether it is whole. */
const large = (bytes: number, mark: string) => ({ mark, text: 'ä€'.repeat(bytes / 5), end: mark });

const keysOf = async (documents: Documents, query: Partial<Parameters<Documents['list']>[0]> = {}) =>
  (await documents.list({ kind: KIND, limit: 1000, ...query })).map(({ key }) => key);

export const documentsSuite = (factory: StoreFactory): void => {
  it('writes a document only where it still is as it was read', async () => {
    await using shop = await Workshop.make(factory);
    const { documents } = shop.store;
    const value = { name: 'ä€𝄞', list: [1, null, 1.5], nested: { '': true } };
    expect(await documents.get(KIND, 'a')).toBeUndefined();
    expect(await documents.put({ kind: KIND, key: 'a', revision: 1, value })).toBeNull();
    const first = (await documents.put({ kind: KIND, key: 'a', revision: null, value }))!;
    expect(await documents.get(KIND, 'a')).toEqual({ key: 'a', revision: first, value });
    expect(await documents.put({ kind: KIND, key: 'a', revision: null, value: 0 })).toBeNull();
    const second = (await documents.put({ kind: KIND, key: 'a', revision: first, value: [] }))!;
    expect(second).toBeGreaterThan(first);
    expect(await documents.put({ kind: KIND, key: 'a', revision: first, value: 0 })).toBeNull();
    expect(await documents.get(KIND, 'a')).toEqual({ key: 'a', revision: second, value: [] });
    // Another kind has keys of its own.
    expect(await documents.get('scaling-group', 'a')).toBeUndefined();
    await shop.reopen();
    expect(await shop.store.documents.get(KIND, 'a')).toEqual({ key: 'a', revision: second, value: [] });
  });

  it('removes a document only where it still is as it was read, and gives no revision twice', async () => {
    await using shop = await Workshop.make(factory);
    const { documents } = shop.store;
    const seen = new Set<number>();
    for (let round = 0; round < 3; round += 1) {
      const revision = (await documents.put({ kind: KIND, key: 'a', revision: null, value: round }))!;
      expect(seen).not.toContain(revision);
      seen.add(revision);
      expect(await documents.remove({ kind: KIND, key: 'a', revision: revision + 1 })).toBe(false);
      expect(await documents.remove({ kind: KIND, key: 'a', revision })).toBe(true);
      expect(await documents.remove({ kind: KIND, key: 'a', revision })).toBe(false);
      expect(await documents.get(KIND, 'a')).toBeUndefined();
      expect(await keysOf(documents)).toEqual([]);
    }
    await shop.reopen();
    const again = (await shop.store.documents.put({ kind: KIND, key: 'a', revision: null, value: 0 }))!;
    expect(seen).not.toContain(again);
  });

  it('lists by key, a page after the other', async () => {
    await using shop = await Workshop.make(factory);
    const { documents } = shop.store;
    const keys = ['b', 'a', 'a/2', 'a/10', 'a.b', 'a-b', 'A', 'a:z', 'a_', 'ab', 'a/1'];
    for (const key of keys) await set(documents, key, { key });
    await documents.put({ kind: 'model-version', key: 'a/1', revision: null, value: 'other' });
    const sorted = keys.toSorted();
    expect(await keysOf(documents)).toEqual(sorted);
    expect((await documents.list({ kind: KIND, limit: 1 }))[0]?.value).toEqual({ key: sorted[0] });
    const paged: string[] = [];
    for (let after = ''; ; after = paged.at(-1)!) {
      const page = await keysOf(documents, { after, limit: 4 });
      paged.push(...page);
      if (page.length < 4) break;
    }
    expect(paged).toEqual(sorted);
    expect(await keysOf(documents, { prefix: 'a/' })).toEqual(['a/1', 'a/10', 'a/2']);
    expect(await keysOf(documents, { prefix: 'a/', after: 'a/1' })).toEqual(['a/10', 'a/2']);
    expect(await keysOf(documents, { prefix: 'a/', after: 'A' })).toEqual(['a/1', 'a/10', 'a/2']);
    expect(await keysOf(documents, { prefix: 'a/', after: 'b' })).toEqual([]);
    expect(await keysOf(documents, { prefix: 'none' })).toEqual([]);
  });

  it('refuses what cannot be, and names it', async () => {
    await using shop = await Workshop.make(factory);
    const { documents } = shop.store;
    const refused = (field: string) => ({ code: 'invalid_request', extra: { field } });
    const of = (changes: object) => ({ kind: KIND, key: 'a', revision: null, value: 0, ...changes }) as const;
    for (const key of ['', 'ä', 'a b', 'a~', 'a\n', 'x'.repeat(DOCUMENT_KEY_MAX + 1)]) {
      await expect(documents.put(of({ key }))).rejects.toMatchObject(refused('key'));
      await expect(documents.get(KIND, key)).rejects.toMatchObject(refused('key'));
      await expect(documents.remove({ kind: KIND, key, revision: 1 })).rejects.toMatchObject(refused('key'));
    }
    await expect(documents.put(of({ kind: 'other' }))).rejects.toMatchObject(refused('kind'));
    await expect(documents.put(of({ value: undefined }))).rejects.toMatchObject(refused('value'));
    await expect(documents.put(of({ revision: 1.5 }))).rejects.toMatchObject(refused('revision'));
    for (const limit of [0, 1001, Number.NaN])
      await expect(documents.list({ kind: KIND, limit })).rejects.toMatchObject(refused('limit'));
    await expect(documents.list({ kind: KIND, limit: 1, prefix: '*' })).rejects.toMatchObject(
      refused('prefix'),
    );
    const huge = 'x'.repeat(DOCUMENT_BYTES_MAX - 1);
    await expect(documents.put(of({ value: huge }))).rejects.toMatchObject({
      code: 'payload_too_large',
      message: expect.stringContaining(`the limit is ${DOCUMENT_BYTES_MAX}`),
    });
    const longest = 'x'.repeat(DOCUMENT_KEY_MAX);
    expect(await documents.put(of({ key: longest }))).not.toBeNull();
    expect(await keysOf(documents)).toEqual([longest]);
  });

  it('keeps large documents whole', async () => {
    await using shop = await Workshop.make(factory);
    const { documents } = shop.store;
    const revisions: number[] = [];
    for (const bytes of [9_000_000, 70_000, 5_000_000, 10, 5_000_001]) {
      const value = large(bytes, `n${bytes}`);
      revisions.push(await set(documents, 'a', value));
      expect((await documents.get(KIND, 'a'))?.value).toEqual(value);
    }
    await set(documents, 'b', large(3_000_000, 'b'));
    await shop.reopen();
    const { documents: again } = shop.store;
    const listed = await again.list({ kind: KIND, limit: 10 });
    expect(listed.map(({ value }) => (value as { end: string }).end)).toEqual(['n5000001', 'b']);
    const stale = {
      kind: KIND,
      key: 'a',
      revision: revisions[0]!,
      value: large(5_000_000, 'stale'),
    } as const;
    expect(await again.put(stale)).toBeNull();
    expect(await again.remove({ kind: KIND, key: 'a', revision: revisions.at(-1)! })).toBe(true);
    expect(await keysOf(again)).toEqual(['b']);
  });

  it('loses no update of many writers', async () => {
    await using shop = await Workshop.make(factory);
    const clients = [shop.store.documents, shop.server.connect().documents];
    const WRITERS = 8;
    const RAISES = 25;
    await set(clients[0]!, 'counter', 0);
    const revisions: number[] = [];
    const raise = async (documents: Documents): Promise<void> => {
      for (;;) {
        const found = (await documents.get(KIND, 'counter'))!;
        const { revision } = found;
        const value = (found.value as number) + 1;
        const given = await documents.put({ kind: KIND, key: 'counter', revision, value });
        if (given === null) continue;
        revisions.push(given);
        return;
      }
    };
    const writers = Array.from({ length: WRITERS }, async (_, writer) => {
      for (let round = 0; round < RAISES; round += 1) await raise(clients[writer % 2]!);
    });
    await Promise.all(writers);
    expect((await clients[1]!.get(KIND, 'counter'))?.value).toBe(WRITERS * RAISES);
    expect(new Set(revisions).size).toBe(WRITERS * RAISES);
  });

  it('shows readers whole documents while others write large ones', async () => {
    await using shop = await Workshop.make(factory);
    const [writer, reader] = [shop.store.documents, shop.server.connect().documents];
    await set(writer, 'a', large(4_000_000, 'first'));
    let isOver = false;
    const writing = (async () => {
      for (let round = 0; round < 6; round += 1)
        await set(writer, 'a', large(round % 2 === 0 ? 4_500_000 : 4_000_000, `r${round}`));
      isOver = true;
    })();
    let reads = 0;
    while (!isOver) {
      const value = (await reader.get(KIND, 'a'))?.value as ReturnType<typeof large>;
      expect(value.mark).toBe(value.end);
      reads += 1;
    }
    await writing;
    expect(reads).toBeGreaterThan(0);
  });

  it('lists what is there all the while once, and nothing that was not there, while others write', async () => {
    await using shop = await Workshop.make(factory);
    const [writer, reader] = [shop.store.documents, shop.server.connect().documents];
    const STAYING = Array.from({ length: 40 }, (_, index) => `stay-${String(index).padStart(2, '0')}`);
    for (const key of STAYING) await set(writer, key, 'stays');
    let isOver = false;
    const change = async (some: number): Promise<void> => {
      for (let round = 0; round < 30; round += 1) {
        const key = `stay-${String((round * 7 + some) % 40).padStart(2, '0')}x`;
        const revision = await writer.put({ kind: KIND, key, revision: null, value: 'comes' });
        await set(writer, STAYING[(round * 3 + some) % 40]!, 'stays');
        if (revision !== null) await writer.remove({ kind: KIND, key, revision });
      }
    };
    const changing = Promise.all([change(0), change(1), change(2)]).then(() => {
      isOver = true;
    });
    while (!isOver) {
      const found: string[] = [];
      for (let after = ''; ; after = found.at(-1)!) {
        const page = await reader.list({ kind: KIND, after, limit: 7 });
        for (const { key, value } of page) expect(value).toBe(key.endsWith('x') ? 'comes' : 'stays');
        found.push(...page.map(({ key }) => key));
        if (page.length < 7) break;
      }
      expect(found).toEqual([...new Set(found)].toSorted());
      expect(found.filter((key) => !key.endsWith('x'))).toEqual(STAYING);
    }
    await changing;
    expect(await keysOf(writer)).toEqual(STAYING);
  });

  it('keeps documents whatever retention drops', async () => {
    await using shop = await Workshop.make(factory);
    const { documents, retention } = shop.store;
    const revisions = [await set(documents, 'a', 1), await set(documents, 'b', large(3_000_000, 'b'))];
    const id = await shop.admit(1);
    await shop.settleOk(await shop.run([id, 0, 1]));
    shop.now += 3 * LIMITS.retentionMs;
    await retention.sweep({ now: shop.now, limit: 10 });
    expect(await shop.queue.call(id)).toBe('gone');
    const listed = await documents.list({ kind: KIND, limit: 10 });
    expect(listed.map(({ revision }) => revision)).toEqual(revisions);
  });
};
