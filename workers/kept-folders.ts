/** Folders that several replicas share: made when the first asks, and gone a while after the last has given them back. */
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { type OwnDirectory, removeTree } from './own-directory.ts';

/** How long a folder stays that nobody uses: a replica that crashed starts again, and files may be copies of gigabytes. */
const UNUSED_MS = 60_000;

export type KeptFolder = {
  /** Absolute. */
  readonly directory: string;
  /** Safe to call twice. */
  giveBack(): void;
};

type Folder = { readonly made: Promise<string>; users: number; unused: NodeJS.Timeout | null };

export class KeptFolders {
  readonly #root: OwnDirectory;
  readonly #folders = new Map<string, Folder>();

  constructor(root: OwnDirectory) {
    this.#root = root;
  }

  /** One folder for all who ask with the same key, which is the beginning of its name. */
  async take(key: string, fill: (directory: string) => Promise<void>): Promise<KeptFolder> {
    let folder = this.#folders.get(key);
    if (!folder) {
      folder = { made: this.#make(key, fill), users: 0, unused: null };
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

  async #make(key: string, fill: (directory: string) => Promise<void>): Promise<string> {
    const directory = await mkdtemp(join(await this.#root.path(), `${key}-`));
    try {
      await fill(directory);
      return directory;
    } catch (error) {
      await removeTree(directory);
      throw error;
    }
  }

  #drop(key: string, folder: Folder): void {
    if (this.#folders.get(key) === folder) this.#folders.delete(key);
    // Its key is free at once: the next who asks with it gets a new folder.
    void folder.made.then(removeTree).catch(() => undefined);
  }
}
