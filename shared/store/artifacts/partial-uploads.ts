/**
 * Uploads that are not whole, in a directory that any number of processes of any number of machines write to, without a
 * lock that could be left behind: a file has one writer, and its name says who. Taking it over is a rename, which one of
 * many does.
 *
 *   partial/HEX/BYTES.part ──── rename ───► partial/HEX/BYTES.OWNER.held ─── whole, checked ──► sha256/AB/HEX
 *        ▲                                        │        ▲
 *        └──────────────── a piece ended ─────────┘        └── its owner is gone or silent: another owner
 *
 * From an owner that is only silent the bytes are copied, for it might still write into the file that it had opened.
 */
import { constants } from 'node:fs';
import { copyFile, mkdir, readdir, rename, rm, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isHex } from './digest-text.ts';
import { HeldUpload } from './held-upload.ts';
import { newOwner, stateOf } from './owner.ts';
import { checkDirectory, type FileFacts, factsOf, openPlain, orNull } from './plain-file.ts';
import { busy, offsetConflict, type Piece, startsAnew } from './refusals.ts';

/** How long a piece waits for the one before it, and how often it looks: below the time that clients wait for an answer. */
const WAIT_MS = 20_000;
const LOOK_MS = 40;
/** A file is renamed when it is taken and given back: twice in a request, so that the next look finds it. */
const LOOKS_MAX = 10;
const NAME = /^(\d{1,16})\.(?:([0-9a-f]{16}-\d+-\d+-[0-9a-f]{16})\.(held|copy)|part)$/;

export type PartialUpload = FileFacts & {
  readonly path: string;
  readonly name: string;
  /** Of the whole file, as the pieces told. */
  readonly total: number;
  readonly owner: string | null;
  readonly isCopy: boolean;
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** So that two that met do not meet again. */
const aWhile = (): Promise<void> => pause(LOOK_MS * (0.5 + Math.random()));

const isHeld = ({ owner, changedAt }: PartialUpload): boolean =>
  owner !== null && stateOf(owner, changedAt, Date.now()) === 'here';

export class PartialUploads {
  readonly #root: string;

  constructor(directory: string) {
    this.#root = join(directory, 'partial');
  }

  /** The one that has most comes first. */
  async find(hex: string): Promise<PartialUpload[]> {
    return (await this.#entries(hex)).filter(({ isCopy }) => !isCopy).sort((a, b) => b.bytes - a.bytes);
  }

  /**
   * The upload that the piece adds to, for us alone.
   *
   * @throws SluiceError `artifact_offset_conflict`, `changed_meanwhile`
   */
  async claim(piece: Piece, hex: string): Promise<{ held: HeldUpload; before: PartialUpload | null }> {
    const until = performance.now() + WAIT_MS;
    for (;;) {
      const found = await this.find(hex);
      if (!found.some(isHeld)) {
        const claimed = await this.#try(piece, hex, found);
        if (claimed !== null) return claimed;
      } else if (performance.now() > until) throw busy(piece.digest);
      await aWhile();
    }
  }

  async #try(piece: Piece, hex: string, found: readonly PartialUpload[]) {
    const [best = null] = found;
    const isAnew = startsAnew(piece, { receivedBytes: best?.bytes ?? 0, bytes: best?.total ?? null });
    if (best === null || isAnew) {
      const held = await this.#begin(piece, hex, found);
      return held && { held, before: null };
    }
    const held = await this.#take(hex, best);
    if (held === null) return null;
    if (held.receivedBytes === piece.offsetBytes) return { held, before: best };
    // Between the look and the rename others took it and gave it back.
    const { receivedBytes } = held;
    await held.rest();
    throw offsetConflict(piece, receivedBytes, best.total);
  }

  #path(hex: string, total: number, owner: string, end = 'held'): string {
    return join(this.#root, hex, `${total}.${owner}.${end}`);
  }

  /** null: another came first, or at the same time. */
  async #begin({ bytes }: Piece, hex: string, old: readonly PartialUpload[]): Promise<HeldUpload | null> {
    // One that has just ended its upload takes the directory away, also under whoever makes it.
    const made = mkdir(join(this.#root, hex), { recursive: true, mode: 0o700 });
    if ((await orNull(made.then(() => true))) === null) return null;
    await checkDirectory(this.#root);
    const path = this.#path(hex, bytes, newOwner());
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    const file = await orNull(openPlain(path, flags, 0o600));
    if (file === null) return null;
    const held = new HeldUpload(file, path, bytes, 0);
    const known = new Set([path, ...old.map((one) => one.path)]);
    if ((await this.find(hex)).some((one) => !known.has(one.path))) {
      await held.drop();
      return null;
    }
    await Promise.all(old.map((one) => rm(one.path, { force: true })));
    return held;
  }

  async #take(hex: string, found: PartialUpload): Promise<HeldUpload | null> {
    const { total, owner } = found;
    const mine = newOwner();
    const path = this.#path(hex, total, mine);
    if ((await orNull(rename(found.path, path).then(() => true))) === null) return null;
    if (owner !== null && stateOf(owner, found.changedAt, Date.now()) !== 'gone') {
      const copy = this.#path(hex, total, mine, 'copy');
      await copyFile(path, copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await rename(copy, path);
    }
    const file = await openPlain(path, constants.O_RDWR);
    const held = new HeldUpload(file, path, total, (await file.stat()).size);
    await held.sign();
    return held;
  }

  /** What is left of a digest's uploads once it is whole. */
  async forget(hex: string): Promise<void> {
    for (const one of await this.#entries(hex)) if (!isHeld(one)) await rm(one.path, { force: true });
    await this.#tidy(hex);
  }

  /** @returns how many were dropped */
  async drop(touchedBefore: number): Promise<number> {
    let dropped = 0;
    if (!(await checkDirectory(this.#root))) return 0;
    for (const hex of (await readdir(this.#root)).filter(isHex)) {
      for (const one of await this.#entries(hex)) {
        if (one.changedAt >= touchedBefore || isHeld(one)) continue;
        if (await orNull(unlink(one.path).then(() => true))) dropped += 1;
      }
      await this.#tidy(hex);
    }
    return dropped;
  }

  /** Removes the directory where it is empty. */
  async #tidy(hex: string): Promise<void> {
    await rmdir(join(this.#root, hex)).catch(() => undefined);
  }

  async #entries(hex: string): Promise<PartialUpload[]> {
    const directory = join(this.#root, hex);
    if (!(await checkDirectory(this.#root)) || !(await checkDirectory(directory))) return [];
    for (let look = 1; ; look += 1) {
      const { found, isMoving } = await entriesIn(directory);
      // A listing may miss what gets another name meanwhile; the directory is there for the sake of an upload.
      if ((!isMoving && found.length > 0) || look === LOOKS_MAX) return found;
    }
  }
}

/** `isMoving`: one was there and had another name when it was looked at, so that it may be missing here. */
const entriesIn = async (
  directory: string,
): Promise<{ readonly found: PartialUpload[]; readonly isMoving: boolean }> => {
  const found: PartialUpload[] = [];
  let isMoving = false;
  for (const name of (await orNull(readdir(directory))) ?? []) {
    const match = NAME.exec(name);
    if (!match) continue;
    const path = join(directory, name);
    const facts = await factsOf(path);
    if (facts)
      found.push({
        ...facts,
        ...{ path, name, total: Number(match[1]), owner: match[2] ?? null, isCopy: match[3] === 'copy' },
      });
    else isMoving = true;
  }
  return { found, isMoving };
};
