/** A model version's files from Sluice's API into a directory: checked by digest, gone on with where a connection broke. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, cp, glob, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import PQueue from 'p-queue';
import type { SourceFile } from '../../shared/domain/function.ts';
import type { ModelFile } from '../../shared/domain/model.ts';
import { listDigest } from './file-list.ts';

/** Files at a time: one connection seldom fills the network, and many crowd out other pods'. */
const PARALLEL = 4;
/** With these pauses a restart of the server, or of what stands before it, is outlasted: about five minutes. */
const TRIES_MAX = 15;
const FIRST_PAUSE_MS = 500;
const PAUSE_MS_MAX = 30_000;
/** A server that says nothing for so long is tried again. */
const SILENCE_MS_MAX = 60_000;
/** A list of 10,000 files, and the source of the version. */
const VERSION_BYTES_MAX = 128 * 2 ** 20;

export type FetchModel = {
  readonly address: string;
  /** null: no key is needed. */
  readonly keyFile: string | null;
  readonly model: string;
  readonly version: string;
  /** `listDigest` of what the version had when it was deployed. */
  readonly list: string;
  /** Where the files go; null: the deployment leaves them out. */
  readonly into: string | null;
  /** A class that our entrypoint serves: where its source goes, and the function's output as JSON; null: the image serves. */
  readonly served: { readonly home: string; readonly output: string } | null;
  readonly say: (text: string) => void;
  /** Waits between tries; for tests of what a server breaks off. */
  readonly firstPauseMs?: number;
};

/** Asking again would bring the same answer. */
class FinalError extends Error {}

const FINAL = new Set([400, 401, 403, 404, 410]);

/** @throws Error in words for the pod's status */
export const fetchModel = async (options: FetchModel): Promise<void> => {
  const { model, version, into, served, say } = options;
  const client = await clientOf(options);
  const found = await client.json(
    `/v1/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`,
  );
  const files = into === null ? [] : found.files;
  if (listDigest(files, served === null ? [] : found.source) !== options.list)
    throw new Error(
      `version ${version} of model ${model} is another at ${options.address} than the one that was deployed`,
    );
  const queue = new PQueue({ concurrency: PARALLEL });
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  say(`fetching ${files.length} files of ${model}:${version}, ${bytes} bytes`);
  await Promise.all(files.map((file) => queue.add(() => place(client, file, into!))));
  if (served !== null) await writeServed(found, options, served);
  say('all files are there');
};

/** What of a version's JSON is read here. */
type VersionJson = {
  readonly files: readonly ModelFile[];
  readonly source: readonly SourceFile[];
  readonly handler: { readonly file: string; readonly attribute: string } | null;
  readonly loader: Readonly<Record<string, unknown>> | null;
};

/** What `--model-directory` of the entrypoint reads. */
const writeServed = async (
  { files, source, handler, loader }: VersionJson,
  { model, version }: FetchModel,
  { home, output }: { readonly home: string; readonly output: string },
): Promise<void> => {
  const root = path.join(home, 'source');
  await mkdir(root, { recursive: true });
  for (const file of source) {
    const target = targetOf(file.path, root);
    await mkdir(path.dirname(target), { recursive: true });
    await writeFile(target, Buffer.from(file.content, 'base64'));
  }
  const binding = { name: model, version: Number(version), files, loader };
  const spec = { name: model, handler, output: JSON.parse(output) as object, model: binding };
  await writeFile(path.join(home, 'function.json'), JSON.stringify(spec));
};

type Client = {
  readonly json: (route: string) => Promise<VersionJson>;
  /** Appends the artifact's bytes to the file; resumes where it stands. */
  readonly download: (file: ModelFile, target: string) => Promise<void>;
};

const clientOf = async ({ address, keyFile, firstPauseMs }: FetchModel): Promise<Client> => {
  const key = keyFile === null ? null : (await readFile(keyFile, 'utf8')).trim();
  const base = address.replace(/\/+$/, '');
  const ask = async (route: string, signal: AbortSignal, from = 0): Promise<Response> => {
    const headers: Record<string, string> = {};
    if (key !== null) headers.authorization = `Bearer ${key}`;
    if (from > 0) headers.range = `bytes=${from}-`;
    const answer = await fetch(`${base}${route}`, { headers, signal, redirect: 'error' });
    if (answer.ok) return answer;
    const text = `${base}${route} answered ${answer.status}: ${(await answer.text()).slice(0, 500)}`;
    throw FINAL.has(answer.status) ? new FinalError(text) : new Error(text);
  };
  const piece = async (file: ModelFile, target: string): Promise<void> => {
    const has = await sizeOf(target);
    if (has >= file.bytes && file.bytes > 0) return;
    const silence = new Silence();
    try {
      const answer = await ask(`/v1/artifacts/${file.digest}`, silence.signal, has);
      await append(answer, target, { from: answer.status === 206 ? has : 0, to: file.bytes, silence });
    } catch (error) {
      if (error instanceof FinalError || (await sizeOf(target)) <= has) throw error;
    } finally {
      silence.end();
    }
    const now = await sizeOf(target);
    if (now <= has && file.bytes > 0)
      throw new Error(`${file.path} broke off at ${now} of ${file.bytes} bytes`);
  };
  return {
    json: (route) =>
      persistently(firstPauseMs, async () => {
        const answer = await ask(route, AbortSignal.timeout(SILENCE_MS_MAX));
        const text = await answer.text();
        if (text.length > VERSION_BYTES_MAX)
          throw new FinalError(`${route} answered more than a version holds`);
        return JSON.parse(text) as VersionJson;
      }),
    download: async (file, target) => {
      // Large files come in many pieces, since a server ends a long request: tries are counted from the last that brought some.
      do await persistently(firstPauseMs, () => piece(file, target));
      while ((await sizeOf(target)) < file.bytes);
    },
  };
};

const persistently = async <T>(firstPauseMs: number = FIRST_PAUSE_MS, work: () => Promise<T>): Promise<T> => {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof FinalError || tries >= TRIES_MAX) throw error;
      await pause(Math.min(firstPauseMs * 2 ** (tries - 1), PAUSE_MS_MAX));
    }
  }
};

/** Gives a request up when nothing has come for a while. */
class Silence {
  readonly #controller = new AbortController();
  readonly #timer = setTimeout(
    () => this.#controller.abort(new Error(`nothing came for ${SILENCE_MS_MAX / 1000} s`)),
    SILENCE_MS_MAX,
  );

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    this.#timer.refresh();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

const append = async (
  answer: Response,
  target: string,
  { from, to, silence }: { readonly from: number; readonly to: number; readonly silence: Silence },
): Promise<void> => {
  const out = createWriteStream(target, from > 0 ? { flags: 'r+', start: from } : { flags: 'w' });
  let at = from;
  try {
    for await (const piece of answer.body ?? []) {
      silence.heard();
      at += piece.byteLength;
      if (at > to) throw new FinalError(`${answer.url} sent more than the ${to} bytes that the file has`);
      if (!out.write(piece)) await once(out, 'drain');
    }
  } finally {
    out.end();
    await once(out, 'close');
  }
};

const sizeOf = async (file: string): Promise<number> =>
  stat(file).then(
    ({ size }) => size,
    () => 0,
  );

const digestOf = async (file: string): Promise<string> => {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file)) hash.update(piece as Buffer);
  return `sha256:${hash.digest('hex')}`;
};

/** A path of the list below `into`, wherever it was written. */
const targetOf = (file: string, into: string): string => {
  const target = path.resolve(into, file);
  const isBelow = target.startsWith(`${path.resolve(into)}${path.sep}`);
  if (!isBelow || file.split('/').includes('..') || file.includes('\0'))
    throw new Error(`the path ${JSON.stringify(file)} leaves the model's directory`);
  return target;
};

const place = async (client: Client, file: ModelFile, into: string): Promise<void> => {
  const target = targetOf(file.path, into);
  // An init container that runs again finds what it has done.
  if ((await sizeOf(target)) === file.bytes && (await digestOf(target).catch(() => '')) === file.digest)
    return;
  await mkdir(path.dirname(target), { recursive: true });
  const part = `${target}.part`;
  await client.download(file, part);
  const digest = await digestOf(part);
  if (digest !== file.digest) throw new Error(`${file.path} has the digest ${digest}, not ${file.digest}`);
  await chmod(part, 0o444);
  await rename(part, target);
};

/** The Python package `sluice`, below `into`; `from` is a path with wild cards. */
export const copyEntrypoint = async (from: string, into: string): Promise<void> => {
  for await (const directory of glob(from)) {
    await cp(directory, path.join(into, 'sluice'), { recursive: true, dereference: true, force: true });
    return;
  }
  throw new Error(`there is no Python package at ${from}: --kubernetes-image must be Sluice's own image`);
};
