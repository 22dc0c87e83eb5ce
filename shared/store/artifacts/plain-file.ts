/** Files as this store makes them and no others: symbolic links, pipes and devices in their place are never opened. */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { SluiceError } from '../../errors/sluice-error.ts';

export const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException | null)?.code ?? '';

/** null where nothing is. */
export const orNull = async <T>(work: Promise<T>): Promise<T | null> => {
  try {
    return await work;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  }
};

export type FileFacts = {
  readonly bytes: number;
  readonly changedAt: number;
  readonly inode: bigint;
  readonly changedNs: bigint;
  readonly links: number;
};

/** Of a regular file; null where there is none, or something else. */
export const factsOf = async (path: string): Promise<FileFacts | null> => {
  const found = await orNull(lstat(path, { bigint: true }));
  if (found === null || !found.isFile()) return null;
  return {
    bytes: Number(found.size),
    changedAt: Number(found.mtimeMs),
    inode: found.ino,
    changedNs: found.mtimeNs,
    links: Number(found.nlink),
  };
};

/** @param flags of `constants`; a pipe does not block the open, and a link is refused */
export const openPlain = async (path: string, flags: number, mode?: number): Promise<FileHandle> => {
  const file = await open(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, mode);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new SluiceError('internal', `${path} is no regular file; remove it.`);
};

/** @throws SluiceError `internal` where a link or a file stands where a directory must */
export const checkDirectory = async (path: string): Promise<boolean> => {
  const found = await orNull(lstat(path));
  if (found === null) return false;
  if (found.isDirectory()) return true;
  throw new SluiceError('internal', `${path} is no directory; artifacts are kept in directories only.`);
};

/** Makes a directory's entries durable. */
export const syncDirectory = async (path: string): Promise<void> => {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
};
