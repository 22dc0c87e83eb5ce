/** The functions of a TypeScript or JavaScript module, found by importing it in a process of its own. */
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { SpecJson } from '../../sdk/index.ts';
import { CommandError } from '../failure.ts';

/** What the child answers: specs by export, and the files that the module imported by relative paths. */
export type ModuleManifest =
  | {
      readonly functions: readonly {
        readonly attribute: string;
        readonly spec: Omit<SpecJson, 'handler' | 'source'>;
      }[];
      readonly files: readonly string[];
    }
  | { readonly error: string };

const SDK = path.resolve(import.meta.dirname, '../../sdk');
const SOURCE_BYTES_MAX = 64 * 1024 * 1024;

const described = (file: string): Promise<ModuleManifest> =>
  new Promise((resolve, reject) => {
    const child = fork(path.join(import.meta.dirname, 'describe-module.ts'), [file], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    let stderr = '';
    let answer: ModuleManifest | null = null;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-8192);
    });
    child.on('message', (message: ModuleManifest) => {
      answer = message;
      // An open handle in the module would keep the child alive for ever.
      child.kill();
    });
    child.on('error', reject);
    child.on('close', () =>
      resolve(answer ?? { error: stderr.trim().split('\n').at(-1) ?? 'it ended without a word' }),
    );
  });

/** The deepest folder that holds all files. */
export const commonFolder = (files: readonly string[]): string =>
  files.map(path.dirname).reduce((folder, other) => {
    let shared = folder;
    while (path.relative(shared, other).startsWith('..')) shared = path.dirname(shared);
    return shared;
  });

/** The package is installed by its path: it is in no registry. */
const importProblem = (file: string, error: string): string =>
  /Cannot find (package|module) '@sluice\/sdk'/.test(error)
    ? `${file} imports @sluice/sdk, which is not installed beside it; run \`npm install '${SDK}'\` in ${path.dirname(file)}.`
    : `${file} could not be imported: ${error}`;

export const moduleSpecs = async (file: string): Promise<readonly SpecJson[]> => {
  const manifest = await described(file);
  if ('error' in manifest) throw new CommandError(importProblem(file, manifest.error));
  const files = [...new Set([file, ...manifest.files])].sort();
  const root = commonFolder(files);
  const relative = (name: string): string => path.relative(root, name).split(path.sep).join('/');
  let bytes = 0;
  const source = files.map((name) => {
    const content = readFileSync(name);
    bytes += content.length;
    return { path: relative(name), content: content.toString('base64') };
  });
  if (bytes > SOURCE_BYTES_MAX)
    throw new CommandError(
      `${file} and what it imports have ${bytes} bytes; at most ${SOURCE_BYTES_MAX} can be deployed.`,
    );
  return manifest.functions.map(({ attribute, spec }) => ({
    ...spec,
    handler: { file: relative(file), attribute },
    source,
  }));
};
