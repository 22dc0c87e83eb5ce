/** Models' files where handlers read them: what lies there, for how long, and what never gets there. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ModelBinding, ModelFile } from '../../../shared/domain/model.ts';
import { openArtifacts } from '../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../shared/store/ports/artifacts.ts';
import { ModelDirectories } from '../../../workers/model-directories.ts';

const { signal } = new AbortController();

const modelOf = (files: readonly ModelFile[]): ModelBinding => ({
  name: 'm',
  version: 1,
  files,
  loader: null,
});

const keep = async (artifacts: Artifacts, at: string, text: string): Promise<ModelFile> => {
  const body = Buffer.from(text);
  const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`;
  const pieces = async function* () {
    yield body;
  };
  await artifacts.append({ digest, offsetBytes: 0, bytes: body.length, body: pieces() });
  return { path: at, digest, bytes: body.length };
};

/** Artifacts and the folders made of them, below one directory of the test. */
const open = async () => {
  const root = await mkdtemp(path.join(tmpdir(), 'sluice-models-test-'));
  const artifacts = openArtifacts({ kind: 'directory', directory: path.join(root, 'kept'), reserveBytes: 0 });
  const served = path.join(root, 'served');
  const models = new ModelDirectories(artifacts, served);
  onTestFinished(async () => {
    await models.remove();
    await artifacts.close();
    await rm(root, { recursive: true, force: true });
  });
  return { artifacts, models, served };
};

describe('a model’s directory', () => {
  it('is a read-only tree of its files, and of nothing else', async () => {
    const { artifacts, models } = await open();
    const files = [
      await keep(artifacts, 'weights.bin', 'weights'),
      await keep(artifacts, 'tokens/words/en.txt', 'words'),
      await keep(artifacts, 'tokens/copy.txt', 'words'),
      await keep(artifacts, 'empty', ''),
    ];
    const { directory } = await models.take(modelOf(files), signal);
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const found = entries.filter((entry) => !entry.isDirectory());
    expect(found.every((entry) => entry.isFile())).toBe(true);
    const paths = found.map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
    expect(paths.toSorted()).toEqual(['empty', 'tokens/copy.txt', 'tokens/words/en.txt', 'weights.bin']);
    expect(await readFile(path.join(directory, 'tokens/words/en.txt'), 'utf8')).toBe('words');
    for (const entry of entries) {
      const { mode } = await stat(path.join(entry.parentPath, entry.name));
      expect(mode & 0o222).toBe(0);
    }
  });

  it('is one for all who ask for the same files, and goes at the end', async () => {
    const { artifacts, models, served } = await open();
    const file = await keep(artifacts, 'a', 'a');
    const [one, same] = await Promise.all([
      models.take(modelOf([file]), signal),
      models.take(modelOf([file]), signal),
    ]);
    const other = await models.take(modelOf([{ ...file, path: 'b' }]), signal);
    expect(same.directory).toBe(one.directory);
    expect(other.directory).not.toBe(one.directory);
    one.giveBack();
    one.giveBack();
    expect(await readdir(same.directory)).toEqual(['a']);
    await models.remove();
    await models.remove();
    expect(await readdir(served)).toEqual([]);
    // The artifact itself stays: what went was a link or a copy of it.
    expect(await readFile(await artifacts.file(file.digest, signal), 'utf8')).toBe('a');
  });

  it('takes away what a killed worker of this machine left, and nothing of another machine', async () => {
    const { artifacts, models, served } = await open();
    // No process has a number above the kernel's limit.
    await mkdir(path.join(served, `sluice-models-${hostname()}-999999999-x`, 'left'), { recursive: true });
    await mkdir(path.join(served, 'sluice-models-elsewhere-999999999-x'));
    await models.take(modelOf([await keep(artifacts, 'a', 'a')]), signal);
    const left = (await readdir(served)).filter((name) => name.includes('999999999'));
    expect(left).toEqual(['sluice-models-elsewhere-999999999-x']);
  });
});

describe('a path of a model', () => {
  const wrong = ['../out', 'a/../../out', '/etc/passwd', 'a//b', './a', 'a/.', '', 'a/', 'a\\..\\b', 'a\0b'];
  it.each([...wrong, 'x'.repeat(2000)].map((at) => [at.slice(0, 20), at]))(
    'never leaves its directory: %j',
    async (_, at) => {
      const { artifacts, models, served } = await open();
      const file = await keep(artifacts, at!, 'a');
      await expect(models.take(modelOf([file]), signal)).rejects.toMatchObject({ code: 'invalid_function' });
      await models.remove();
      expect(await readdir(served)).toEqual([]);
    },
  );

  it('is no file and directory at once', async () => {
    const { artifacts, models } = await open();
    const files = [await keep(artifacts, 'a', 'one'), await keep(artifacts, 'a/b', 'two')];
    await expect(models.take(modelOf(files), signal)).rejects.toThrow(/EEXIST|ENOTDIR/);
    await expect(models.take(modelOf([files[0]!, files[0]!]), signal)).rejects.toThrow(/EEXIST/);
  });
});

describe('files that are not there', () => {
  it('are named, and asked for again the next time', async () => {
    const { artifacts, models } = await open();
    const missing = { path: 'a', digest: `sha256:${'0'.repeat(64)}`, bytes: 1 };
    await expect(models.take(modelOf([missing]), signal)).rejects.toMatchObject({
      code: 'artifact_not_found',
    });
    const file = await keep(artifacts, 'a', 'abc');
    await expect(models.take(modelOf([{ ...file, bytes: 4 }]), signal)).rejects.toThrow(
      'model file a has 3 bytes where 4 are registered',
    );
    expect(await readdir((await models.take(modelOf([file]), signal)).directory)).toEqual(['a']);
  });

  it('are refused by a worker without artifacts, and a model without files is not', async () => {
    const models = new ModelDirectories(null, tmpdir());
    onTestFinished(() => models.remove());
    const file = { path: 'a', digest: `sha256:${'0'.repeat(64)}`, bytes: 1 };
    await expect(models.take(modelOf([file]), signal)).rejects.toThrow(/no place of artifacts/);
    expect(await readdir((await models.take(modelOf([]), signal)).directory)).toEqual([]);
  });
});
