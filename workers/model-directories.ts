/**
 * Models' files as directories, while they are served: one folder for each set of files, shared by all replicas and
 * versions that have it, outside the artifacts' own place. Nothing in a folder but directories and regular files, all
 * read-only; a path that would leave it never gets this far, and is refused here all the same.
 */
import { createHash } from 'node:crypto';
import { chmod, constants, copyFile, link, lstat, mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ModelBinding, ModelFile } from '../shared/domain/model.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { Artifacts } from '../shared/store/ports/artifacts.ts';
import type { ModelFolder, ModelFolders } from './backend.ts';
import { KeptFolders } from './kept-folders.ts';
import { OwnDirectory } from './own-directory.ts';

const READ_ONLY_FILE = 0o444;
const READ_ONLY_DIRECTORY = 0o555;
const PATH_BYTES_MAX = 1024;

const refusedPath = (path: string, why: string): SluiceError =>
  new SluiceError(
    'invalid_function',
    `model file ${JSON.stringify(path)} ${why}; give a relative path with "/" between its names.`,
    { field: 'model.files' },
  );

/** The names of a path, checked: nothing that climbs, begins at the root or means another place elsewhere. */
export const modelPathNames = (path: string): readonly string[] => {
  const names = path.split('/');
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) throw refusedPath(path.slice(0, 80), 'is too long');
  if (names.some((name) => name === '' || name === '.' || name === '..'))
    throw refusedPath(path, 'has an empty name, "." or ".."');
  if (path.includes('\\') || path.includes('\0')) throw refusedPath(path, 'has a backslash or a zero byte');
  return names;
};

const manifestDigest = (files: readonly ModelFile[]): string =>
  createHash('sha256')
    .update(JSON.stringify(files.map(({ path, digest }) => [path, digest]).toSorted()))
    .digest('hex')
    .slice(0, 32);

/** A clone or a hard link where the file system can, else a copy: a checkpoint is gigabytes. */
const place = async (from: string, to: string): Promise<void> => {
  await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
    .catch(() => link(from, to))
    .catch(() => copyFile(from, to, constants.COPYFILE_EXCL));
};

/** Deepest first: what lies in a directory that is read-only cannot be changed any more. */
const seal = async (directory: string): Promise<void> => {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await seal(path);
    else if (!entry.isFile()) throw new Error(`${path} is neither a file nor a directory. This is a bug.`);
  }
  await chmod(directory, READ_ONLY_DIRECTORY);
};

export class ModelDirectories implements ModelFolders {
  readonly #artifacts: Artifacts | null;
  readonly #folders: KeptFolders;

  /** Folders are made in one of their own below `parent`. */
  constructor(artifacts: Artifacts | null, parent: string) {
    this.#artifacts = artifacts;
    this.#folders = new KeptFolders(new OwnDirectory({ parent, kind: 'models', isShared: true }));
  }

  take(model: ModelBinding, signal: AbortSignal): Promise<ModelFolder> {
    return this.#folders.take(manifestDigest(model.files), async (folder) => {
      if (this.#artifacts === null && model.files.length > 0)
        throw new Error('the files of its model: this worker has no place of artifacts (see --artifacts)');
      for (const file of model.files) await this.#put(folder, file, signal);
      await seal(folder);
    });
  }

  remove(): Promise<void> {
    return this.#folders.remove();
  }

  async #put(root: string, { path, digest, bytes }: ModelFile, signal: AbortSignal): Promise<void> {
    const target = join(root, ...modelPathNames(path));
    signal.throwIfAborted();
    const source = await this.#artifacts!.file(digest, signal);
    await mkdir(dirname(target), { recursive: true });
    await place(source, target);
    const placed = await lstat(target);
    if (!placed.isFile()) throw new Error(`model file ${path} is no regular file among the artifacts`);
    const { size, mode } = placed;
    if (size !== bytes) throw new Error(`model file ${path} has ${size} bytes where ${bytes} are registered`);
    if ((mode & 0o222) !== 0) await chmod(target, READ_ONLY_FILE);
  }
}
