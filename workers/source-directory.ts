/**
 * Where functions' sources lie while their processes run: one directory outside the data directory, one folder for
 * each version, named by its digest. It goes when the workers stop,
 * and what killed ones left goes when the next ones begin.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, normalize, sep } from 'node:path';
import type { FunctionVersion, SourceFile } from '../shared/domain/function.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import { OwnDirectory } from './own-directory.ts';

const placeOf = (root: string, file: SourceFile): string => {
  const path = normalize(join(root, file.path));
  if (!path.startsWith(root + sep)) {
    throw new SluiceError(
      'invalid_function',
      `source path ${JSON.stringify(file.path)} leaves the source directory; give a path below it.`,
      { field: 'source' },
    );
  }
  return path;
};

const writeAll = async (root: string, files: readonly SourceFile[]): Promise<void> => {
  await mkdir(root, { recursive: true });
  for (const file of files) {
    const path = placeOf(root, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, Buffer.from(file.content, 'base64'));
  }
};

export class SourceDirectory {
  readonly #root = new OwnDirectory({ parent: tmpdir(), kind: 'source', isShared: false });
  readonly #versions = new Map<string, Promise<string>>();

  /** The absolute path of the version's source folder; written once. */
  of(version: FunctionVersion): Promise<string> {
    const key = `${version.spec.name}-${version.digest}`;
    let folder = this.#versions.get(key);
    if (!folder) {
      folder = this.#materialise(key, version.spec.source);
      folder.catch(() => this.#versions.delete(key));
      this.#versions.set(key, folder);
    }
    return folder;
  }

  async #materialise(key: string, files: readonly SourceFile[]): Promise<string> {
    const folder = join(await this.#root.path(), key);
    await writeAll(folder, files);
    return folder;
  }

  async remove(): Promise<void> {
    this.#versions.clear();
    await this.#root.remove();
  }
}
