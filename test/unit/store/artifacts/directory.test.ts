/** What a directory of artifacts meets that others can write to: links, crashes, owners that fall silent, a full disk. */
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openArtifacts } from '../../../../shared/store/artifacts/index.ts';
import { newOwner, SILENCE_MS } from '../../../../shared/store/artifacts/owner.ts';
import type { Artifacts } from '../../../../shared/store/ports/artifacts.ts';
import { collected, digestOf, inChunks } from '../../../contract/artifacts-suite.ts';

const MiB = 2 ** 20;
let directory: string;
let artifacts: Artifacts;
const open = (reserveBytes = 0): Artifacts => openArtifacts({ kind: 'directory', directory, reserveBytes });

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-artifacts-'));
  artifacts = open();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const file = (length: number) => {
  const bytes = randomBytes(length);
  const digest = digestOf(bytes);
  const hex = digest.slice(7);
  return {
    ...{ bytes, digest, partial: path.join(directory, 'partial', hex) },
    whole: path.join(directory, 'sha256', hex.slice(0, 2), hex),
    send: (from = 0, to = length, by = artifacts) =>
      by.append({ digest, offsetBytes: from, bytes: length, body: inChunks(bytes.subarray(from, to)) }),
  };
};

/** Parts of an owner's name: place, process, its start, random. */
const ownerWith = (change: (parts: string[]) => void): string => {
  const parts = newOwner().split('-');
  change(parts);
  return parts.join('-');
};
const elsewhere = (): string =>
  ownerWith((parts) => {
    parts[0] = 'f'.repeat(16);
  });

const heldBy = (partial: string, owner: string): string => {
  const [name] = readdirSync(partial) as [string];
  const held = path.join(partial, name.replace('.part', `.${owner}.held`));
  renameSync(path.join(partial, name), held);
  return held;
};

describe('whole files', () => {
  it('are read-only, and nothing is left beside them', async () => {
    const one = file(3 * MiB);
    await one.send(0, MiB);
    await one.send(MiB);
    expect(lstatSync(one.whole).mode & 0o777).toBe(0o444);
    expect(lstatSync(path.dirname(one.whole)).mode & 0o777).toBe(0o700);
    expect(readdirSync(path.join(directory, 'partial'))).toEqual([]);
    expect(await artifacts.file(one.digest, new AbortController().signal)).toBe(one.whole);
  });

  it('that are asked for count as stored now', async () => {
    const one = file(10);
    await one.send();
    const old = Date.now() - 7_200_000;
    utimesSync(one.whole, old / 1000, old / 1000);
    await artifacts.state(one.digest);
    expect(await artifacts.remove(one.digest, Date.now() - 3_600_000)).toBe(false);
  });
});

describe('what is no file of ours', () => {
  it('is not read in the place of an artifact', async () => {
    const one = file(100);
    mkdirSync(path.dirname(one.whole), { recursive: true });
    writeFileSync(path.join(directory, 'secret'), one.bytes);
    symlinkSync(path.join(directory, 'secret'), one.whole);
    expect((await artifacts.state(one.digest)).isComplete).toBe(false);
    await expect(artifacts.read({ digest: one.digest })).rejects.toMatchObject({
      code: 'artifact_not_found',
    });
    await one.send();
    expect(lstatSync(one.whole).isFile()).toBe(true);
    expect(readFileSync(path.join(directory, 'secret')).equals(one.bytes)).toBe(true);
  });

  it('is not written to in the place of an upload', async () => {
    const one = file(100);
    const victim = path.join(directory, 'victim');
    writeFileSync(victim, 'x');
    mkdirSync(one.partial, { recursive: true });
    symlinkSync(victim, path.join(one.partial, '100.part'));
    mkdirSync(path.join(one.partial, `100.${newOwner()}.held`));
    writeFileSync(path.join(one.partial, 'readme.txt'), 'mine');
    await one.send(0, 50);
    await one.send(50);
    expect((await artifacts.state(one.digest)).isComplete).toBe(true);
    expect(readFileSync(victim, 'utf8')).toBe('x');
    expect(readFileSync(path.join(one.partial, 'readme.txt'), 'utf8')).toBe('mine');
  });

  it.each(['sha256', 'partial'])('is not followed as the directory %s', async (name) => {
    const target = mkdtempSync(path.join(tmpdir(), 'sluice-elsewhere-'));
    symlinkSync(target, path.join(directory, name));
    await expect(file(10).send()).rejects.toThrow(/is no directory/);
    expect(readdirSync(target).flatMap((entry) => readdirSync(path.join(target, entry)))).toEqual([]);
    rmSync(target, { recursive: true });
  });

  it('is left out of the list, and does not break it', async () => {
    const one = file(10);
    await one.send();
    for (const name of ['x'.repeat(64), 'notes.txt'])
      writeFileSync(path.join(path.dirname(one.whole), name), 'x');
    writeFileSync(path.join(directory, 'sha256', 'README'), 'x');
    symlinkSync(one.whole, path.join(path.dirname(one.whole), one.digest.slice(7, 9) + 'a'.repeat(62)));
    const found: string[] = [];
    for await (const { digest } of artifacts.list()) found.push(digest);
    expect(found).toEqual([one.digest]);
  });
});

describe('an owner', () => {
  it('of a process that is gone is followed at once', async () => {
    const one = file(3 * MiB);
    await one.send(0, MiB);
    const gone = ownerWith((parts) => {
      parts[2] = '1';
    });
    const inode = lstatSync(heldBy(one.partial, gone)).ino;
    expect((await artifacts.state(one.digest)).receivedBytes).toBe(MiB);
    await one.send(MiB, 2 * MiB);
    expect(lstatSync(path.join(one.partial, `${3 * MiB}.part`)).ino).toBe(inode);
    expect((await one.send(2 * MiB)).isComplete).toBe(true);
  });

  it('of another machine is followed when it is silent, and its late bytes spoil nothing', async () => {
    const one = file(3 * MiB);
    await one.send(0, MiB);
    const held = heldBy(one.partial, elsewhere());
    const { open: openFile } = await import('node:fs/promises');
    const late = await openFile(held, 'r+');
    const silentSince = (Date.now() - SILENCE_MS - 1000) / 1000;
    utimesSync(held, silentSince, silentSince);
    await one.send(MiB, 2 * MiB);
    await late.write(Buffer.alloc(MiB, 1), 0, MiB, 0);
    await late.close();
    expect((await one.send(2 * MiB)).isComplete).toBe(true);
    const { body } = await artifacts.read({ digest: one.digest });
    expect((await collected(body)).equals(one.bytes)).toBe(true);
  });

  it('that is there is waited for', async () => {
    const one = file(2 * MiB);
    await one.send(0, MiB);
    const held = heldBy(one.partial, elsewhere());
    utimesSync(held, new Date(), new Date());
    const sending = one.send(MiB);
    await artifacts.state(one.digest);
    renameSync(held, path.join(one.partial, `${2 * MiB}.part`));
    expect((await sending).isComplete).toBe(true);
  });

  it('that takes an upload and gives it back never hides what was received', async () => {
    const one = file(60);
    await one.send(0, 1);
    let isSending = true;
    const seen: number[] = [];
    const looking = (async () => {
      while (isSending) seen.push((await artifacts.state(one.digest)).receivedBytes);
    })();
    for (let at = 1; at < 60; at += 1) await one.send(at, at + 1);
    isSending = false;
    await looking;
    expect(seen.length).toBeGreaterThan(59);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });

  it('whose upload was taken from it is told so, and publishes nothing', async () => {
    const one = file(2 * MiB);
    const begun = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const body = (async function* () {
      yield* inChunks(one.bytes.subarray(0, MiB + 1));
      begun.resolve();
      await goOn.promise;
      yield one.bytes.subarray(MiB + 1);
    })();
    const slow = artifacts.append({ digest: one.digest, offsetBytes: 0, bytes: 2 * MiB, body });
    const refused = expect(slow).rejects.toMatchObject({ code: 'changed_meanwhile' });
    await begun.promise;
    const [name] = readdirSync(one.partial) as [string];
    renameSync(path.join(one.partial, name), path.join(one.partial, `${2 * MiB}.part`));
    goOn.resolve();
    await refused;
    expect(existsSync(one.whole)).toBe(false);
  });
});

describe('what a crash left', () => {
  it.each(['torn at its end', 'with other bytes in it'])('%s never completes wrongly', async (how) => {
    const one = file(2 * MiB);
    await one.send(0, MiB);
    const [name] = readdirSync(one.partial) as [string];
    const torn = path.join(one.partial, name);
    const kept = how === 'torn at its end' ? MiB - 1000 : MiB;
    const bytes = Buffer.from(one.bytes.subarray(0, kept));
    if (kept === MiB) bytes.fill(0, 500, 900);
    writeFileSync(torn, bytes);
    const next = open();
    expect((await next.state(one.digest)).receivedBytes).toBe(kept);
    const sent = one.send(kept, 2 * MiB, next);
    if (kept < MiB) expect((await sent).isComplete).toBe(true);
    else await expect(sent).rejects.toMatchObject({ code: 'artifact_digest_mismatch' });
    expect(existsSync(one.whole)).toBe(kept < MiB);
    await one.send(0, 2 * MiB, next);
    expect(readFileSync(one.whole).equals(one.bytes)).toBe(true);
  });

  it('at its full length is checked by an empty piece', async () => {
    const one = file(1000);
    await one.send(0, 500);
    writeFileSync(path.join(one.partial, '1000.part'), one.bytes);
    expect((await open().state(one.digest)).isComplete).toBe(false);
    expect((await one.send(1000, 1000, open())).isComplete).toBe(true);
  });
});

describe('a disk without room', () => {
  it('refuses before the first byte, and keeps what it has', async () => {
    const one = file(1000);
    await one.send(0, 500);
    const full = open(2 ** 60);
    await expect(one.send(500, 1000, full)).rejects.toMatchObject({
      code: 'disk_full',
      retryable: true,
      message: expect.stringMatching(/--disk-reserve/),
    });
    expect((await full.state(one.digest)).receivedBytes).toBe(500);
    expect((await one.send(500)).isComplete).toBe(true);
  });
});
