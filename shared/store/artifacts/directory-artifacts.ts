/**
 * Artifacts in a directory, which several processes may share, over a network file system as well: `sha256/AB/HEX` are
 * whole files, read-only; `partial/` holds what is on its way.
 */
import { constants } from 'node:fs';
import { lutimes, mkdir, opendir, readdir, statfs, unlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Digest } from '../../domain/model.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { ArtifactState, Artifacts } from '../ports/artifacts.ts';
import { digestOfHex, hexOf, isHex } from './digest-text.ts';
import { type HeldUpload, LostUpload } from './held-upload.ts';
import { PartialUploads } from './partial-uploads.ts';
import { checkDirectory, codeOf, type FileFacts, factsOf, openPlain, orNull } from './plain-file.ts';
import { busy, checkPiece, notFound, tooLong, wrongDigest } from './refusals.ts';
import { digestOfBody, RunningDigest, RunningDigests } from './running-digests.ts';

/** A write is at least so large; twice as much of an upload is in memory at most. */
const WRITE_BYTES = 2 ** 20;
const READ_BYTES = 256 * 1024;
/** So often the free space is looked at while an upload grows. */
const SPACE_BYTES = 64 * 2 ** 20;
/** A file that was stored or asked for in the last hour need not be marked as asked for again. */
const RENEW_MS = 3_600_000;

type Piece = Parameters<Artifacts['append']>[0];

export class DirectoryArtifacts implements Artifacts {
  readonly #directory: string;
  readonly #reserveBytes: number;
  readonly #partial: PartialUploads;
  readonly #digests = new RunningDigests();

  /** @param reserveBytes free bytes that are left to others */
  constructor(directory: string, reserveBytes: number) {
    this.#directory = resolve(directory);
    this.#reserveBytes = reserveBytes;
    this.#partial = new PartialUploads(this.#directory);
  }

  async state(digest: Digest): Promise<ArtifactState> {
    const hex = hexOf(digest);
    let whole = await this.#whole(hex);
    const [best] = whole === null ? await this.#partial.find(hex) : [];
    // An upload that became whole between the two looks is found by neither.
    if (best === undefined) whole ??= await this.#whole(hex);
    if (whole === null)
      return { digest, isComplete: false, receivedBytes: best?.bytes ?? 0, bytes: best?.total ?? null };
    await this.#renew(hex, whole);
    return { digest, isComplete: true, receivedBytes: whole.bytes, bytes: whole.bytes };
  }

  async append(piece: Piece): Promise<ArtifactState> {
    const { digest } = piece;
    const hex = hexOf(digest);
    checkPiece(piece);
    if ((await this.#whole(hex)) !== null) return this.state(digest);
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await this.#checkSpace(piece.bytes - piece.offsetBytes);
      const { held, before } = await this.#partial.claim(piece, hex);
      if ((await this.#whole(hex)) === null) return await this.#receive(piece, hex, held, before);
      await held.drop();
    } catch (error) {
      throw this.#refusal(error, digest);
    }
    return this.state(digest);
  }

  async read({ digest, fromByte = 0, toByte }: Parameters<Artifacts['read']>[0]) {
    const hex = hexOf(digest);
    const whole = await this.#whole(hex);
    if (whole === null) throw notFound(digest);
    const to = Math.min(toByte ?? whole.bytes, whole.bytes);
    return { bytes: whole.bytes, body: bytesOf(this.#path(hex), Math.max(0, fromByte), to) };
  }

  async file(digest: Digest): Promise<string> {
    const hex = hexOf(digest);
    const whole = await this.#whole(hex);
    if (whole === null) throw notFound(digest);
    await this.#renew(hex, whole);
    return this.#path(hex);
  }

  /** Where it lies when it is whole. */
  pathOf(digest: Digest): string {
    return this.#path(hexOf(digest));
  }

  async *list() {
    const root = join(this.#directory, 'sha256');
    if (!(await checkDirectory(root))) return;
    for (const prefix of (await readdir(root)).filter((name) => /^[0-9a-f]{2}$/.test(name))) {
      for await (const { name } of await opendir(join(root, prefix))) {
        const whole = isHex(name) && name.startsWith(prefix) ? await this.#whole(name) : null;
        if (whole !== null)
          yield { digest: digestOfHex(name), bytes: whole.bytes, storedAt: whole.changedAt };
      }
    }
  }

  async remove(digest: Digest, storedBefore = Number.POSITIVE_INFINITY): Promise<boolean> {
    const hex = hexOf(digest);
    const whole = await this.#whole(hex);
    if (whole === null || whole.changedAt >= storedBefore) return false;
    return (await orNull(unlink(this.#path(hex)).then(() => true))) ?? false;
  }

  dropUploads(touchedBefore: number): Promise<number> {
    return this.#partial.drop(touchedBefore);
  }

  async close(): Promise<void> {}

  #path(hex: string): string {
    return join(this.#directory, 'sha256', hex.slice(0, 2), hex);
  }

  async #whole(hex: string): Promise<FileFacts | null> {
    const root = join(this.#directory, 'sha256');
    if (!(await checkDirectory(root)) || !(await checkDirectory(join(root, hex.slice(0, 2))))) return null;
    return factsOf(this.#path(hex));
  }

  async #renew(hex: string, { changedAt }: FileFacts): Promise<void> {
    const now = Date.now();
    if (now - changedAt < RENEW_MS) return;
    // Of another user's file this process cannot say it; whoever sweeps there has the same user.
    await lutimes(this.#path(hex), now / 1000, now / 1000).catch(() => undefined);
  }

  async #receive(
    piece: Piece,
    hex: string,
    held: HeldUpload,
    before: FileFacts | null,
  ): Promise<ArtifactState> {
    const isFirst = before === null || before.bytes === 0;
    const digest = isFirst ? new RunningDigest() : this.#digests.take(hex, markOf(before));
    try {
      await this.#write(piece, held, digest);
    } catch (error) {
      await this.#rest(hex, held, digest);
      throw error;
    }
    const { bytes } = piece;
    const { receivedBytes } = held;
    if (receivedBytes < bytes) await this.#rest(hex, held, digest);
    else await this.#publish(piece, hex, held, digest);
    return { digest: piece.digest, isComplete: receivedBytes === bytes, receivedBytes, bytes };
  }

  /** The disk writes while the processor hashes and the socket fills. */
  async #write(piece: Piece, held: HeldUpload, digest: RunningDigest | null): Promise<void> {
    const flow = new Flow(held, digest, () => this.#checkSpace(0));
    let received = piece.offsetBytes;
    try {
      for await (const chunk of piece.body) {
        received += chunk.byteLength;
        if (received > piece.bytes) throw tooLong(piece);
        await flow.add(chunk);
      }
    } finally {
      await flow.end();
    }
  }

  async #rest(hex: string, held: HeldUpload, digest: RunningDigest | null): Promise<void> {
    const path = await held.rest();
    const left = await factsOf(path);
    // After a failed write more was added to the digest than the file has.
    if (digest !== null && left?.bytes === digest.bytes) this.#digests.keep(hex, digest, markOf(left));
  }

  async #publish(
    { digest, bytes }: Piece,
    hex: string,
    held: HeldUpload,
    running: RunningDigest | null,
  ): Promise<void> {
    const found = running === null ? await digestOfBody(held.content()) : running.finish();
    if (found !== digest) {
      await held.drop();
      await this.#partial.forget(hex);
      throw wrongDigest(digest, found, bytes);
    }
    const path = this.#path(hex);
    await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
    await held.publish(path);
    await this.#partial.forget(hex);
  }

  async #checkSpace(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#directory);
    const freeBytes = bavail * bsize;
    if (freeBytes - bytes >= this.#reserveBytes) return;
    throw new SluiceError(
      'disk_full',
      `The file system of the artifacts has ${freeBytes} bytes left, of which ${this.#reserveBytes} stay free (--disk-reserve), and ${bytes} bytes are to come.`,
    );
  }

  #refusal(error: unknown, digest: Digest): unknown {
    if (error instanceof LostUpload) return busy(digest);
    if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(codeOf(error)))
      return new SluiceError(
        'disk_full',
        `The file system of the artifacts takes no more of ${digest}: ${(error as Error).message}.`,
      );
    return error;
  }
}

/** A file that was changed since has another. */
const markOf = ({ bytes, inode, changedNs }: FileFacts): string => `${bytes} ${inode} ${changedNs}`;

/** Gathers small chunks into writes, of which one is under way at a time. */
class Flow {
  readonly #held: HeldUpload;
  readonly #digest: RunningDigest | null;
  readonly #checkSpace: () => Promise<void>;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #unchecked = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(held: HeldUpload, digest: RunningDigest | null, checkSpace: () => Promise<void>) {
    this.#held = held;
    this.#digest = digest;
    this.#checkSpace = checkSpace;
  }

  async add(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#bytes >= WRITE_BYTES) await this.#next();
  }

  /** Also after a failure of the body: what came before it is kept. */
  async end(): Promise<void> {
    await this.#next();
    await this.#writing;
  }

  async #next(): Promise<void> {
    await this.#writing;
    const chunks = this.#chunks;
    if (this.#unchecked >= SPACE_BYTES) await this.#checkSpace();
    this.#unchecked = (this.#unchecked % SPACE_BYTES) + this.#bytes;
    this.#chunks = [];
    this.#bytes = 0;
    this.#writing = this.#held.write(chunks);
    // Whoever waits for it next hears of its failure.
    this.#writing.catch(() => undefined);
    for (const chunk of chunks) this.#digest?.add(chunk);
  }
}

async function* bytesOf(path: string, start: number, end: number): AsyncGenerator<Uint8Array> {
  const file = await openPlain(path, constants.O_RDONLY);
  try {
    if (start >= end) return;
    yield* file.createReadStream({ start, end: end - 1, highWaterMark: READ_BYTES, autoClose: false });
  } finally {
    await file.close();
  }
}
