/** A model version's files among the artifacts of a test. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import type { ModelBinding, ModelFile } from '../../../../shared/domain/model.ts';
import { openArtifacts } from '../../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../../shared/store/ports/artifacts.ts';

const keep = async (artifacts: Artifacts, at: string, text: string): Promise<ModelFile> => {
  const body = Buffer.from(text);
  const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`;
  async function* pieces() {
    yield body;
  }
  await artifacts.append({ digest, offsetBytes: 0, bytes: body.length, body: pieces() });
  return { path: at, digest, bytes: body.length };
};

/** @param files text by path */
export const modelOf = async (name: string, files: Readonly<Record<string, string>>) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sluice-artifacts-'));
  const artifacts = openArtifacts({ kind: 'directory', directory, reserveBytes: 0 });
  onTestFinished(async () => {
    await artifacts.close();
    await rm(directory, { recursive: true, force: true });
  });
  const kept: ModelFile[] = [];
  for (const [at, text] of Object.entries(files)) kept.push(await keep(artifacts, at, text));
  const model: ModelBinding = { name, version: 1, files: kept, loader: null };
  return { artifacts, model };
};
