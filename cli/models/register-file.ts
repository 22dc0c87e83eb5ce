/** `sluice models register`: a REGISTRATION whose source and files may lie beside it on this machine. */
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ModelFileJson, ModelVersionJson, RegistrationJson, Sluice } from '../../sdk/index.ts';
import { UsageError } from '../failure.ts';

/** Sources of one version in memory at most; the server takes no more. */
const SOURCE_BYTES_MAX = 64 * 1024 * 1024;

/** A file of this machine as an artifact: what is on the server already is not sent again. */
export const uploadFile = async (client: Sluice, at: string, name: string): Promise<ModelFileJson> => {
  const handle = await open(at);
  try {
    return { path: name, ...(await client.artifacts.upload(handle)) };
  } finally {
    await handle.close();
  }
};

const relativeName = (text: unknown, member: string): string => {
  if (typeof text === 'string' && text !== '' && !path.isAbsolute(text) && !text.split('/').includes('..'))
    return text;
  throw new UsageError(`"${member}" has ${JSON.stringify(text)}; give paths beside the file, without "..".`);
};

const sourceOf = async (folder: string, listed: readonly unknown[]) => {
  let bytes = 0;
  const source: { path: string; content: string }[] = [];
  for (const one of listed) {
    if (typeof one === 'object' && one !== null) {
      source.push(one as { path: string; content: string });
      continue;
    }
    const name = relativeName(one, 'source');
    const content = await readFile(path.join(folder, name));
    bytes += content.length;
    if (bytes > SOURCE_BYTES_MAX) throw new UsageError(`"source" has more than ${SOURCE_BYTES_MAX} bytes.`);
    source.push({ path: name, content: content.toString('base64') });
  }
  return source;
};

export const registerFile = async (client: Sluice, name: string, file: string): Promise<ModelVersionJson> => {
  const folder = path.dirname(path.resolve(file));
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`${file} is not JSON: ${error.message}.`);
    throw error;
  }
  const source = await sourceOf(folder, (raw.source as unknown[] | undefined) ?? []);
  const files: ModelFileJson[] = [];
  for (const one of (raw.files as unknown[] | undefined) ?? []) {
    if (typeof one === 'object') files.push(one as ModelFileJson);
    else {
      const local = relativeName(one, 'files');
      files.push(await uploadFile(client, path.join(folder, local), local));
    }
  }
  return client.models.register(name, { ...raw, source, files } as unknown as RegistrationJson);
};
