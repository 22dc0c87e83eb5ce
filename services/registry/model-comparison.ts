/** What differs between two versions of a model. */
import { createHash } from 'node:crypto';
import type { ComparisonJson, FileChangeJson, ModelVersionJson } from '../../shared/wire/model-api.ts';

const FIELDS = [
  'inputs',
  'outputs',
  'handler',
  'loader',
  'dependencies',
  'interpreter',
  'image',
  'metadata',
  'stage',
  'import',
  'aliases',
] as const satisfies readonly (keyof ModelVersionJson)[];

/** Members in one order, so that objects that say the same are the same text. */
const ordered = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;

const differ = (a: unknown, b: unknown): boolean => JSON.stringify(a, ordered) !== JSON.stringify(b, ordered);

type Digests = ReadonlyMap<string, string>;

const fileChanges = (from: Digests, to: Digests): readonly FileChangeJson[] => {
  const paths = [...new Set([...from.keys(), ...to.keys()])].sort();
  return paths.flatMap((path): readonly FileChangeJson[] => {
    const [before, after] = [from.get(path) ?? null, to.get(path) ?? null];
    if (before === after) return [];
    const change = before === null ? 'added' : after === null ? 'removed' : 'changed';
    return [{ path, change, from: before, to: after }];
  });
};

const fileDigests = ({ files }: ModelVersionJson): Digests =>
  new Map(files.map(({ path, digest }) => [path, digest]));

const sourceDigests = ({ source = [] }: ModelVersionJson): Digests =>
  new Map(
    source.map(({ path, content }) => [
      path,
      `sha256:${createHash('sha256').update(Buffer.from(content, 'base64')).digest('hex')}`,
    ]),
  );

export const compareVersions = (from: ModelVersionJson, to: ModelVersionJson): ComparisonJson => ({
  from: from.version,
  to: to.version,
  differences: FIELDS.filter((field) => differ(from[field], to[field])).map((field) => ({
    field,
    from: from[field],
    to: to[field],
  })),
  files: fileChanges(fileDigests(from), fileDigests(to)),
  source: fileChanges(sourceDigests(from), sourceDigests(to)),
});
