/** Models' files where handlers read them: what lies there, for how long, and what never gets there. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ModelBinding, ModelFile } from '../../../shared/domain/model.ts';
import { openArtifacts } from '../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../shared/store/ports/artifacts.ts';
import { ModelDirectories } from '../../../workers/model-directories.ts';
import { nodeSpec, Rig } from './rig.ts';

const FRAMES = fileURLToPath(new URL('../../../workers/frames.ts', import.meta.url));

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
  it('is tried again where its place could not be made', async () => {
    const { artifacts, models, served } = await open();
    const model = modelOf([await keep(artifacts, 'weights.bin', 'weights')]);
    await writeFile(served, 'in the way');
    await expect(models.take(model, signal)).rejects.toThrow(/EEXIST/);
    await rm(served);
    const { directory } = await models.take(model, signal);
    expect(await readFile(path.join(directory, 'weights.bin'), 'utf8')).toBe('weights');
  });

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

describe('a process of a model', () => {
  /** In place of an interpreter: tells in its refusal to start what it was given. */
  const told = async (rig: Rig): Promise<string> => {
    const program = path.join(rig.directory, 'interpreter.mjs');
    await writeFile(
      program,
      `#!${process.execPath}
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { FrameReader, frameHead, privateBytes } from ${JSON.stringify(FRAMES)};
const socket = new Socket({ fd: 3 });
const reader = new FrameReader(privateBytes, ({ header: { artifacts, directory } }) => {
  const text = artifacts === null ? 'nothing' : readFileSync(artifacts + '/w/weights.txt', 'utf8');
  const isApart = artifacts === null || !artifacts.startsWith(directory);
  socket.write(frameHead({ type: 'start_failed', error: { kind: 'Told', message: text + ' ' + isApart } }, 0));
});
socket.on('data', (chunk) => reader.push(chunk));
`,
      { mode: 0o755 },
    );
    return program;
  };

  it('is told where the files are, and one without a model that there are none', async () => {
    const { artifacts } = await open();
    const file = await keep(artifacts, 'w/weights.txt', 'the weights');
    const rig = await Rig.open({ artifacts });
    const interpreter = await told(rig);
    const environment = { base: null, steps: [], env: {}, isolated: false, interpreter };
    const spec = { ...nodeSpec(''), runtime: 'python', environment } as const;
    const plain = await rig.deploy({ ...spec, name: 'plain' });
    const serving = await rig.deploy({ ...spec, name: 'serving', model: modelOf([file]) });
    expect((await rig.report(plain, ({ failed }) => failed === 1)).reason).toBe('Told: nothing true');
    expect((await rig.report(serving, ({ failed }) => failed === 1)).reason).toBe('Told: the weights true');
  });

  it('says which file is not there', async () => {
    const { artifacts } = await open();
    const rig = await Rig.open({ artifacts });
    const missing = { path: 'a', digest: `sha256:${'0'.repeat(64)}`, bytes: 1 };
    const record = await rig.deploy({ ...nodeSpec(''), model: modelOf([missing]) });
    const { reason } = await rig.report(record, ({ failed }) => failed === 1);
    expect(reason).toContain('0'.repeat(64));
  });
});
