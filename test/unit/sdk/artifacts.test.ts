/** Files to a real ingress and back with the TypeScript client. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Artifacts, PIECE_BYTES } from '../../../sdk/artifacts.ts';
import { Transport } from '../../../sdk/transport.ts';
import { type Rig, startRig } from '../ingress/rig.ts';

let directory: string;
let rig: Rig;
beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-artifacts-'));
  rig = await startRig({ artifacts: path.join(directory, 'store') });
});
afterAll(async () => {
  await rig.stop();
  rmSync(directory, { recursive: true, force: true });
});

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A client that keeps the offsets of what it sent; `before` may break, or do, something ahead of each piece. */
const client = (before: (number: number) => unknown = () => undefined) => {
  const offsets: number[] = [];
  const artifacts = new Artifacts(
    new Transport({
      ...{ url: rig.address, apiKey: null, retries: 2 },
      fetch: async (input, init) => {
        if (init?.method === 'PATCH') {
          offsets.push(Number(new Headers(init.headers).get('upload-offset')));
          await before(offsets.length - 1);
        }
        return fetch(input, init);
      },
    }),
  );
  return { artifacts, offsets };
};

const withFile = async (
  name: string,
  work: (file: FileHandle, where: string) => Promise<void>,
): Promise<void> => {
  const where = path.join(directory, name);
  const file = await open(where, 'w+');
  try {
    await work(file, where);
  } finally {
    await file.close();
  }
};

it('go up in pieces from a file and come back into one', async () => {
  const bytes = randomBytes(2 * PIECE_BYTES + 5);
  await withFile('up', async (file, where) => {
    await writeFile(where, bytes);
    const { artifacts, offsets } = client();
    const seen: number[] = [];
    const artifact = await artifacts.upload(file, { onProgress: (done) => seen.push(done) });
    expect(artifact).toEqual({ digest: digestOf(bytes), bytes: bytes.length });
    expect(offsets).toEqual([0, PIECE_BYTES, 2 * PIECE_BYTES]);
    expect(seen).toEqual([...offsets, bytes.length]);
    await artifacts.upload(file);
    expect(offsets).toHaveLength(3);
  });
  await withFile('down', async (file, where) => {
    await client().artifacts.download(digestOf(bytes), file);
    expect((await readFile(where)).equals(bytes)).toBe(true);
  });
});

it.each([0, 1, PIECE_BYTES])('go up from %i bytes of memory', async (length) => {
  const bytes = randomBytes(length);
  const { artifacts } = client();
  const { digest } = await artifacts.upload(bytes);
  await withFile('small', async (file, where) => {
    expect(await artifacts.download(digest, file)).toEqual({ digest, bytes: length });
    expect((await readFile(where)).equals(bytes)).toBe(true);
  });
});

it('go on where they broke off, and send a piece again whose answer was lost', async () => {
  const bytes = randomBytes(2 * PIECE_BYTES + 5);
  const stop = new AbortController();
  const first = client((number) => number === 1 && stop.abort(new Error('enough')));
  await expect(first.artifacts.upload(bytes, { signal: stop.signal })).rejects.toThrow('enough');
  let lost = false;
  const artifacts = new Artifacts(
    new Transport({
      ...{ url: rig.address, apiKey: null, retries: 2 },
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        if (init?.method !== 'PATCH' || lost) return response;
        lost = true;
        throw new TypeError('fetch failed');
      },
    }),
  );
  const { digest } = await artifacts.upload(bytes);
  expect([lost, await artifacts.state(digest)]).toEqual([
    true,
    { isComplete: true, offset: bytes.length, bytes: bytes.length },
  ]);
});

it('that change under way are refused', async () => {
  await withFile('changing', async (file, where) => {
    await writeFile(where, randomBytes(2 * PIECE_BYTES));
    const { artifacts } = client((number) => number === 0 && file.write(Buffer.from('x'), 0, 1, 5));
    await expect(artifacts.upload(file)).rejects.toMatchObject({
      code: 'artifact_digest_mismatch',
      message: expect.stringMatching(/changed while it was uploaded/),
    });
  });
});

it('that are not there are not found', async () => {
  await withFile('nothing', async (file) => {
    const digest = digestOf(randomBytes(8));
    await expect(client().artifacts.download(digest, file)).rejects.toMatchObject({
      code: 'artifact_not_found',
    });
    await expect(client().artifacts.state('md5:x')).rejects.toMatchObject({ code: 'invalid_request' });
  });
});
