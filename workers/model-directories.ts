/**
 * Models' files as directories, while they are served: one folder for each set of files, shared by all replicas and
 * versions that have it, outside the artifacts' own place. Nothing in a folder but directories and regular files, all
 * read-only; a path that would leave it never gets this far, and is refused here all the same.
 */
import { createHash } from 'node:crypto';
import { chmod, constants, copyFile, link, lstat, mkdir, mkdtemp, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ModelBinding, ModelFile } from '../shared/domain/model.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { Artifacts } from '../shared/store/ports/artifacts.ts';
import type { ModelFolder, ModelFolders } from './backend.ts';
import { OwnDirectory, removeTree } from './own-directory.ts';

const READ_ONLY_FILE = 0o444;
const READ_ONLY_DIRECTORY = 0o555;
const PATH_BYTES_MAX = 1024;
/** How long files stay that nobody uses: a replica that crashed starts again, and where no link can be made they are copies. */
const UNUSED_MS = 60_000;

type Folder = { readonly made: Promise<string>; users: number; unused: NodeJS.Timeout | null };

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
  readonly #root: OwnDirectory;
  readonly #folders = new Map<string, Folder>();

  /** Folders are made in one of their own below `parent`. */
  constructor(artifacts: Artifacts | null, parent: string) {
    this.#artifacts = artifacts;
    this.#root = new OwnDirectory({ parent, kind: 'models', isShared: true });
  }

  async take(model: ModelBinding, signal: AbortSignal): Promise<ModelFolder> {
    const key = manifestDigest(model.files);
    let folder = this.#folders.get(key);
    if (!folder) {
      folder = { made: this.#make(key, model.files, signal), users: 0, unused: null };
      this.#folders.set(key, folder);
      folder.made.catch(() => this.#folders.delete(key));
    }
    const mine = folder;
    mine.users += 1;
    if (mine.unused) clearTimeout(mine.unused);
    mine.unused = null;
    let isGivenBack = false;
    const giveBack = (): void => {
      if (isGivenBack) return;
      isGivenBack = true;
      mine.users -= 1;
      if (mine.users === 0) mine.unused = setTimeout(() => this.#drop(key, mine), UNUSED_MS).unref();
    };
    try {
      return { directory: await mine.made, giveBack };
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** Removes all of them: nothing is served any more. Safe to call twice. */
  async remove(): Promise<void> {
    const folders = [...this.#folders.values()];
    this.#folders.clear();
    await Promise.allSettled(folders.map(({ made }) => made));
    for (const { unused } of folders) if (unused) clearTimeout(unused);
    await this.#root.remove();
  }

  #drop(key: string, folder: Folder): void {
    if (this.#folders.get(key) === folder) this.#folders.delete(key);
    // Its name is free at once: the next who asks for these files gets a new folder.
    void folder.made.then(removeTree).catch(() => undefined);
  }

  async #make(key: string, files: readonly ModelFile[], signal: AbortSignal): Promise<string> {
    if (this.#artifacts === null && files.length > 0)
      throw new Error('the files of its model: this worker has no place of artifacts (see --artifacts)');
    const building = await mkdtemp(join(await this.#root.path(), `${key}-`));
    try {
      for (const file of files) await this.#put(building, file, signal);
      await seal(building);
      return building;
    } catch (error) {
      await removeTree(building);
      throw error;
    }
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
