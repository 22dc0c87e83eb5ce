/** Artifacts of a bucket as files of this machine: one download each, a limit, and files in use that stay. */
import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdtempSync, readFileSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ArtifactsCache } from '../../../../shared/store/artifacts/artifacts-cache.ts';
import { openArtifacts } from '../../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../../shared/store/ports/artifacts.ts';
import { digestOf, inChunks } from '../../../contract/artifacts-suite.ts';

let root: string;
let source: Artifacts;
let reads = 0;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'sluice-cache-'));
  source = openArtifacts({ kind: 'directory', directory: path.join(root, 'source'), reserveBytes: 0 });
  reads = 0;
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const signal = new AbortController().signal;
const cacheOf = (cacheBytesMax = 2 ** 30, read: Artifacts['read'] = (query) => source.read(query)) =>
  new ArtifactsCache(
    {
      state: (digest) => source.state(digest),
      read: (query) => {
        reads += 1;
        return read(query);
      },
    },
    { cacheDirectory: path.join(root, 'cache'), cacheBytesMax, reserveBytes: 0 },
  );
const stored = async (length: number): Promise<{ bytes: Buffer; digest: string }> => {
  const bytes = randomBytes(length);
  const digest = digestOf(bytes);
  await source.append({ digest, offsetBytes: 0, bytes: length, body: inChunks(bytes) });
  return { bytes, digest };
};
const old = (file: string): void => {
  const at = Date.now() / 1000 - 86_400;
  utimesSync(file, at, at);
};

it('is fetched once, however many ask', async () => {
  const { bytes, digest } = await stored(3_000_000);
  const cache = cacheOf();
  const files = await Promise.all(Array.from({ length: 8 }, () => cache.file(digest, signal)));
  expect(new Set(files).size).toBe(1);
  expect(readFileSync(files[0]!).equals(bytes)).toBe(true);
  expect(reads).toBe(1);
  expect(await cacheOf().file(digest, signal)).toBe(files[0]);
  expect(reads).toBe(1);
});

it('goes on where a download broke off', async () => {
  const { bytes, digest } = await stored(5_000_000);
  const froms: (number | undefined)[] = [];
  const cache = cacheOf(2 ** 30, async (query) => {
    froms.push(query.fromByte);
    const { body } = await source.read(query);
    const cut = async function* () {
      let given = 0;
      for await (const chunk of body) {
        given += chunk.byteLength;
        if (froms.length === 1 && given > 3_000_000) throw new Error('the bucket left');
        yield chunk;
      }
    };
    return { bytes: bytes.length, body: cut() };
  });
  await expect(cache.file(digest, signal)).rejects.toThrow('the bucket left');
  expect(readFileSync(await cache.file(digest, signal)).equals(bytes)).toBe(true);
  expect(froms[0]).toBe(0);
  expect(froms[1]).toBeGreaterThan(2_000_000);
});

it('never becomes a file of other bytes', async () => {
  const { digest } = await stored(1000);
  const cache = cacheOf(2 ** 30, async () => ({ bytes: 1000, body: inChunks(randomBytes(1000)) }));
  await expect(cache.file(digest, signal)).rejects.toMatchObject({ code: 'artifact_digest_mismatch' });
});

it('stops with its caller, and goes on for another who waits', async () => {
  const { bytes, digest } = await stored(1_000_000);
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const cache = cacheOf(2 ** 30, async (query) => {
    const { body } = await source.read(query);
    const held = async function* () {
      begun.resolve();
      await goOn.promise;
      yield* body;
    };
    return { bytes: bytes.length, body: held() };
  });
  const abort = new AbortController();
  const first = expect(cache.file(digest, abort.signal)).rejects.toThrow('no longer');
  await begun.promise;
  const second = cache.file(digest, signal);
  abort.abort(new Error('no longer'));
  goOn.resolve();
  await first;
  expect(readFileSync(await second).equals(bytes)).toBe(true);
});

it('makes room of what was not asked for in hours, but not of what is linked', async () => {
  const [linked, unused, used, next] = [
    await stored(100),
    await stored(100),
    await stored(100),
    await stored(150),
  ];
  const cache = cacheOf(400);
  const [linkedAt, unusedAt, usedAt] = await Promise.all(
    [linked, unused, used].map(({ digest }) => cache.file(digest, signal)),
  );
  linkSync(linkedAt!, path.join(root, 'model'));
  old(linkedAt!);
  old(unusedAt!);
  await cache.file(next.digest, signal);
  expect([linkedAt, unusedAt, usedAt].map((file) => existsSync(file!))).toEqual([true, false, true]);
  const large = await stored(380);
  await expect(cache.file(large.digest, signal)).rejects.toMatchObject({
    code: 'disk_full',
    message: expect.stringMatching(/raise --artifacts-cache-limit/),
  });
});

it('says that it is not there', async () => {
  await expect(cacheOf().file(`sha256:${'0'.repeat(64)}`, signal)).rejects.toMatchObject({
    code: 'artifact_not_found',
  });
});
