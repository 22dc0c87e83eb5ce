/** Directories of one process, in a place that outlives it: what a killed one has left goes when the next one comes. */
import { chmod, lstat, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

/** Of this process, wall-clock milliseconds. */
export const STARTED_AT = Date.now() - process.uptime() * 1000;

/** The machine's name is in it, since the place may be shared. */
const prefixOf = (kind: string): string => `sluice-${kind}-${hostname()}-`;

type Place = {
  readonly parent: string;
  /** What lies in it, such as `models`. */
  readonly kind: string;
  /** With other machines, or containers, of which one may have our name and our process id. */
  readonly isShared: boolean;
};

/** Made when it is asked for first; where that failed (a full disk), it is tried again with the next who asks. */
export class OwnDirectory {
  readonly #place: Place;
  #made: Promise<string> | null = null;

  constructor(place: Place) {
    this.#place = place;
  }

  /** Absolute. */
  path(): Promise<string> {
    this.#made ??= makeOwnDirectory(this.#place).catch((error: unknown) => {
      this.#made = null;
      throw error;
    });
    return this.#made;
  }

  /** With all that is in it. Safe to call twice. */
  async remove(): Promise<void> {
    const made = await this.#made?.catch(() => null);
    this.#made = null;
    if (made) await removeTree(made);
  }
}

const makeOwnDirectory = async ({ parent, kind, isShared }: Place): Promise<string> => {
  await mkdir(parent, { recursive: true });
  await removeLeft(parent, prefixOf(kind), isShared);
  return mkdtemp(join(parent, `${prefixOf(kind)}${process.pid}-`));
};

/** Also where directories in it are read-only. */
export const removeTree = async (directory: string): Promise<void> => {
  await unseal(directory);
  await rm(directory, { recursive: true, force: true });
};

const unseal = async (directory: string): Promise<void> => {
  await chmod(directory, 0o755).catch(() => undefined);
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => []))
    if (entry.isDirectory()) await unseal(join(directory, entry.name));
};

const removeLeft = async (parent: string, prefix: string, isShared: boolean): Promise<void> => {
  for (const name of await readdir(parent)) {
    const pid = name.startsWith(prefix) ? Number(name.slice(prefix.length).split('-')[0]) : 0;
    if (pid > 0 && !(isShared && pid === process.pid) && (await isLeft(join(parent, name), pid)))
      await removeTree(join(parent, name)).catch(() => undefined);
  }
};

/** A container that starts again gives its process the same id. Links, and what is another user's, are not ours to follow. */
const isLeft = async (path: string, pid: number): Promise<boolean> => {
  const facts = await lstat(path).catch(() => null);
  if (facts?.isDirectory() !== true || facts.uid !== (process.getuid?.() ?? facts.uid)) return false;
  return pid === process.pid ? facts.mtimeMs < STARTED_AT : !isAlive(pid);
};

/** Whether a process of this machine has this id. */
export const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};
