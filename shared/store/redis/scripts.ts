/**
 * The Lua scripts of the folder `scripts`. A line `-- include: NAME` stands for the text of scripts/parts/NAME.lua; the
 * first line may be a shebang with flags (`#!lua flags=allow-oom` for what finishes work, `#!lua` for what admits).
 * A script answers a refusal of the catalogue with `redis.error_reply('SLUICE code detail')`.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { BugError } from '../../errors/sluice-error.ts';

export type Script = { readonly name: string; readonly text: string; readonly sha: string };

const FOLDER = new URL('./scripts/', import.meta.url);

const withParts = (text: string, within: readonly string[]): string =>
  text.replace(/^-- include: ([a-z0-9-]+)$/gm, (_, name: string) => {
    if (within.includes(name)) throw new BugError(`the script part ${name} includes itself`);
    return withParts(readFileSync(new URL(`parts/${name}.lua`, FOLDER), 'utf8'), [...within, name]);
  });

export const makeScript = (name: string, source: string): Script => {
  const text = withParts(source, []);
  return { name, text, sha: createHash('sha1').update(text).digest('hex') };
};

let loaded: ReadonlyMap<string, Script> | undefined;

/** All scripts by name (`seal` for scripts/seal.lua); read once. */
export const scripts = (): ReadonlyMap<string, Script> => {
  loaded ??= new Map(
    readdirSync(FOLDER)
      .filter((file) => file.endsWith('.lua'))
      .map((file) => {
        const name = file.slice(0, -'.lua'.length);
        return [name, makeScript(name, readFileSync(new URL(file, FOLDER), 'utf8'))];
      }),
  );
  return loaded;
};
