/**
 * Where functions' sources lie while their processes run: one directory outside the data directory, one folder for
 * each version, named by its digest. A folder goes after the version's last replica, the directory when the workers stop, and
 * what killed ones left when the next ones begin.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, normalize, sep } from 'node:path';
import type { FunctionVersion, SourceFile } from '../shared/domain/function.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import { type KeptFolder, KeptFolders } from './kept-folders.ts';
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
  for (const file of files) {
    const path = placeOf(root, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, Buffer.from(file.content, 'base64'));
  }
};

export class SourceDirectory {
  readonly #folders = new KeptFolders(
    new OwnDirectory({ parent: tmpdir(), kind: 'source', isShared: false }),
  );

  /** The version's source folder, for as long as a replica of it runs. */
  take({ spec, digest }: FunctionVersion): Promise<KeptFolder> {
    return this.#folders.take(`${spec.name}-${digest}`, (folder) => writeAll(folder, spec.source));
  }

  remove(): Promise<void> {
    return this.#folders.remove();
  }
}
