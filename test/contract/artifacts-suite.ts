/** What every storage of artifacts must do, wherever its bytes lie. */
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sweepUnreferenced } from '../../shared/store/artifacts/index.ts';
import type { ArtifactState, Artifacts } from '../../shared/store/ports/artifacts.ts';

export type ArtifactsHome = {
  /** Another client of the same place, as another process has it. */
  readonly open: () => Artifacts;
  readonly remove: () => Promise<void>;
};

export const digestOf = (bytes: Uint8Array): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export async function* inChunks(bytes: Uint8Array, chunkBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

export async function* broken(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield* inChunks(bytes);
  throw new Error('the sender left');
}

export const collected = async (body: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
};

const DAY_MS = 86_400_000;
const MiB = 2 ** 20;

/** A client, and what it is sent. */
class Upload {
  readonly bytes: Buffer;
  readonly digest: string;

  constructor(length: number, digest?: string) {
    this.bytes = randomBytes(length);
    this.digest = digest ?? digestOf(this.bytes);
  }

  send(
    artifacts: Artifacts,
    from = 0,
    to = this.bytes.length,
    total = this.bytes.length,
  ): Promise<ArtifactState> {
    const body = inChunks(this.bytes.subarray(from, to));
    return artifacts.append({ digest: this.digest, offsetBytes: from, bytes: total, body });
  }

  state(receivedBytes: number, isComplete = receivedBytes === this.bytes.length): ArtifactState {
    return { digest: this.digest, isComplete, receivedBytes, bytes: this.bytes.length };
  }
}

const whole = async (artifacts: Artifacts, digest: string): Promise<Buffer> =>
  collected((await artifacts.read({ digest })).body);

/** @param openHome a new place for each suite */
export const artifactsSuite = (openHome: () => Promise<ArtifactsHome>): void => {
  let home: ArtifactsHome;
  let artifacts: Artifacts;
  let other: Artifacts;
  beforeAll(async () => {
    home = await openHome();
    artifacts = home.open();
    other = home.open();
  });
  afterAll(async () => {
    await artifacts.close();
    await other.close();
    await home.remove();
  });
  const listed = async (): Promise<Map<string, number>> => {
    const found = new Map<string, number>();
    for await (const { digest, bytes } of artifacts.list()) found.set(digest, bytes);
    return found;
  };

  it('knows nothing of what never came', async () => {
    const { digest } = new Upload(1);
    expect(await artifacts.state(digest)).toEqual({
      digest,
      isComplete: false,
      receivedBytes: 0,
      bytes: null,
    });
    await expect(artifacts.read({ digest })).rejects.toMatchObject({ code: 'artifact_not_found' });
    const { signal } = new AbortController();
    await expect(artifacts.file(digest, signal)).rejects.toMatchObject({ code: 'artifact_not_found' });
    expect(await artifacts.remove(digest)).toBe(false);
    expect((await listed()).has(digest)).toBe(false);
  });

  it.each([0, 1, 65_536, 3 * MiB + 1, 20 * MiB])(
    'takes %i bytes in one piece and gives them back',
    async (length) => {
      const upload = new Upload(length);
      expect(await upload.send(artifacts)).toEqual(upload.state(length));
      expect(await other.state(upload.digest)).toEqual(upload.state(length));
      expect((await whole(other, upload.digest)).equals(upload.bytes)).toBe(true);
      const path = await other.file(upload.digest, new AbortController().signal);
      expect((await readFile(path)).equals(upload.bytes)).toBe(true);
      expect((await listed()).get(upload.digest)).toBe(length);
    },
  );

  it('goes on where it was, by turns from two processes, in pieces of any size', async () => {
    const upload = new Upload(23 * MiB + 7);
    const cuts = [0, 1, 1000, 6 * MiB, 6 * MiB + 10, 22 * MiB, upload.bytes.length];
    for (let at = 1; at < cuts.length; at += 1) {
      const [from, to] = [cuts[at - 1]!, cuts[at]!];
      const [sender, looker] = at % 2 === 0 ? [artifacts, other] : [other, artifacts];
      expect(await upload.send(sender, from, to)).toEqual(upload.state(to));
      expect(await looker.state(upload.digest)).toEqual(upload.state(to));
    }
    expect((await whole(artifacts, upload.digest)).equals(upload.bytes)).toBe(true);
  });

  it('keeps what came before a body broke off', async () => {
    const upload = new Upload(12 * MiB);
    const cut = 7 * MiB + 13;
    const piece = { digest: upload.digest, offsetBytes: 0, bytes: upload.bytes.length };
    const sending = artifacts.append({ ...piece, body: broken(upload.bytes.subarray(0, cut)) });
    await expect(sending).rejects.toThrow('the sender left');
    expect(await other.state(upload.digest)).toEqual(upload.state(cut));
    expect(await upload.send(other, cut)).toEqual(upload.state(upload.bytes.length));
    expect((await whole(artifacts, upload.digest)).equals(upload.bytes)).toBe(true);
  });

  it('refuses a piece at another offset, and says which is right', async () => {
    const upload = new Upload(1000);
    const conflict = (at: number) => ({ code: 'artifact_offset_conflict', extra: { upload_offset: at } });
    await expect(upload.send(artifacts, 10)).rejects.toMatchObject(conflict(0));
    await upload.send(artifacts, 0, 500);
    await expect(upload.send(artifacts, 0, 500)).rejects.toMatchObject(conflict(500));
    await expect(upload.send(other, 600)).rejects.toMatchObject(conflict(500));
    expect(await artifacts.state(upload.digest)).toEqual(upload.state(500));
    await upload.send(artifacts, 500);
  });

  it('begins anew at 0 where another length was told, and refuses it anywhere else', async () => {
    const upload = new Upload(1000);
    await upload.send(artifacts, 0, 400, 2000);
    await expect(upload.send(artifacts, 400)).rejects.toMatchObject({
      code: 'artifact_offset_conflict',
      message: expect.stringMatching(/upload-length is 1000, and the pieces before said 2000/),
      extra: { upload_offset: 0, upload_length: 2000 },
    });
    expect(await upload.send(other, 0, 600)).toEqual(upload.state(600));
    expect(await upload.send(artifacts, 600)).toEqual(upload.state(1000));
  });

  it.each([10, 18 * MiB])(
    'drops %i bytes that have another digest, and takes the right ones then',
    async (length) => {
      const upload = new Upload(length);
      const wrong = new Upload(length, upload.digest);
      const half = Math.floor(length / 2);
      await wrong.send(artifacts, 0, half);
      await expect(wrong.send(other, half)).rejects.toMatchObject({
        code: 'artifact_digest_mismatch',
        extra: { found: digestOf(wrong.bytes) },
      });
      expect(await artifacts.state(upload.digest)).toMatchObject({ receivedBytes: 0, isComplete: false });
      expect(await upload.send(artifacts)).toEqual(upload.state(length));
      expect((await whole(other, upload.digest)).equals(upload.bytes)).toBe(true);
    },
  );

  it('refuses more bytes than are left', async () => {
    const upload = new Upload(100);
    const piece = { digest: upload.digest, offsetBytes: 0, bytes: 60 };
    const sending = artifacts.append({ ...piece, body: inChunks(upload.bytes, 30) });
    await expect(sending).rejects.toMatchObject({ code: 'payload_too_large' });
    expect((await artifacts.state(upload.digest)).isComplete).toBe(false);
  });

  it.each([
    ['sha256:ABC', 0, 1, /digest is "sha256:ABC"/],
    ['../../etc/passwd', 0, 1, /digest is/],
    [`sha256:${'A'.repeat(64)}`, 0, 1, /digest is/],
    [`sha256:${'a'.repeat(64)}`, -1, 1, /upload-offset is -1/],
    [`sha256:${'a'.repeat(64)}`, 2, 1, /upload-offset is 2/],
    [`sha256:${'a'.repeat(64)}`, 0, -1, /upload-length is -1/],
    [`sha256:${'a'.repeat(64)}`, 0.5, 1, /upload-offset is 0.5/],
    [`sha256:${'a'.repeat(64)}`, 0, 2 ** 40 + 1, /upload-length is 1099511627777/],
  ])('refuses %s at %d of %d', async (digest, offsetBytes, bytes, message) => {
    const sending = artifacts.append({ digest, offsetBytes, bytes, body: inChunks(Buffer.alloc(1)) });
    await expect(sending).rejects.toThrow(message);
  });

  it('has the whole of it once, however many send it at the same time', async () => {
    const upload = new Upload(9 * MiB);
    const wrong = new Upload(9 * MiB, upload.digest);
    const sendAll = async (client: Artifacts, { bytes, digest }: Upload): Promise<void> => {
      for (;;) {
        const { receivedBytes, isComplete } = await client.state(digest);
        if (isComplete) return;
        const to = Math.min(receivedBytes + 2 * MiB, bytes.length);
        const body = inChunks(bytes.subarray(receivedBytes, to));
        const sent = await client
          .append({ digest, offsetBytes: receivedBytes, bytes: bytes.length, body })
          .catch((error: { code?: string }) => error);
        const codes = ['artifact_offset_conflict', 'changed_meanwhile', 'artifact_digest_mismatch'];
        if ('code' in sent) expect(codes, String(sent)).toContain(sent.code);
      }
    };
    // One that sends wrong bytes is in between, once: it can only cost time.
    const spoiling = wrong.send(other, 0, 3 * MiB).catch(() => undefined);
    await Promise.all([
      spoiling,
      ...[artifacts, other, artifacts, other].map((client) => sendAll(client, upload)),
    ]);
    expect((await whole(artifacts, upload.digest)).equals(upload.bytes)).toBe(true);
    expect(await upload.send(other)).toEqual(upload.state(upload.bytes.length));
  });

  it('reads ranges', async () => {
    const upload = new Upload(10 * MiB);
    await upload.send(artifacts);
    for (const [fromByte, toByte] of [
      [0, 1],
      [9 * MiB, 10 * MiB],
      [3, 9 * MiB + 1],
      [5, 5],
      [10 * MiB - 1, 2 ** 30],
    ]) {
      const { bytes, body } = await other.read({
        digest: upload.digest,
        fromByte: fromByte!,
        toByte: toByte!,
      });
      expect(bytes).toBe(upload.bytes.length);
      expect((await collected(body)).equals(upload.bytes.subarray(fromByte, toByte))).toBe(true);
    }
  });

  it('removes, and takes again what was removed', async () => {
    const upload = new Upload(100);
    await upload.send(artifacts);
    expect(await artifacts.remove(upload.digest, Date.now() - DAY_MS)).toBe(false);
    expect(await artifacts.remove(upload.digest)).toBe(true);
    await expect(other.read({ digest: upload.digest })).rejects.toMatchObject({ code: 'artifact_not_found' });
    expect(await upload.send(other)).toEqual(upload.state(100));
  });

  it('sweeps what is old and not referred to, and uploads that were given up', async () => {
    const [kept, gone, partial] = [new Upload(10), new Upload(11), new Upload(12 * MiB)];
    await kept.send(artifacts);
    await gone.send(artifacts);
    await partial.send(artifacts, 0, 9 * MiB);
    const isReferenced = (digest: string): boolean => digest !== gone.digest;
    expect(await sweepUnreferenced(artifacts, isReferenced, DAY_MS)).toEqual({
      artifacts: 0,
      bytes: 0,
      uploads: 0,
    });
    const later = Date.now() + DAY_MS + 60_000;
    const swept = await sweepUnreferenced(other, isReferenced, DAY_MS, later);
    expect(swept).toMatchObject({ artifacts: 1, bytes: 11 });
    expect(swept.uploads).toBeGreaterThanOrEqual(1);
    expect((await artifacts.state(partial.digest)).receivedBytes).toBe(0);
    expect((await artifacts.state(kept.digest)).isComplete).toBe(true);
    expect((await artifacts.state(gone.digest)).isComplete).toBe(false);
    expect(await partial.send(artifacts)).toEqual(partial.state(partial.bytes.length));
  });
};
