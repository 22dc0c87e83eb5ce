/** Files that a deploy or a registration names: source with its content, artifacts by their digests. */
import type { SourceFile } from '../domain/function.ts';
import type { Digest, ModelFile } from '../domain/model.ts';
import { ARTIFACT_BYTES_MAX } from '../store/ports/artifacts.ts';
import { type Bag, bagOf, refuse } from './option-bag.ts';

const SOURCE_FILES_MAX = 1000;
/** Decoded source of one version at most: code, not weights. */
const SOURCE_BYTES_MAX = 64 * 2 ** 20;
/** A model is a directory of shards and tokenizer files; a version with more is a data set. */
export const MODEL_FILES_MAX = 10_000;
const PATH_MAX = 1024;
const PATH_PARTS_MAX = 32;
/** What file systems take as one name, in bytes. */
const NAME_BYTES_MAX = 255;

/** Without a group: repeated over tens of megabytes, one overflows the stack of the engine. */
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** A path that stays inside the directory into which the files are written. */
const relativePath = (path: string, where: string): string => {
  const parts = path.split('/');
  const bad =
    parts.some((part) => part === '' || part === '.' || part === '..') ||
    parts.length > PATH_PARTS_MAX ||
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    /[\\:\x00-\x1f\x7f]/.test(path) ||
    !path.isWellFormed() ||
    parts.some((part) => Buffer.byteLength(part) > NAME_BYTES_MAX);
  return bad ? refuse(where, path, 'a relative path with / between its parts, without . or ..') : path;
};

/** A file cannot be a directory as well: `a` and `a/b` are refused together. */
const refuseNesting = (paths: ReadonlySet<string>, where: string): void => {
  for (const path of paths) {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const parent = path.slice(0, end);
      if (paths.has(parent)) refuse(where, path, `paths of which none is below the file "${parent}"`);
    }
  }
};

/** `isNeeded`: at least one file is wanted. */
export const sourceOf = (bag: Bag, isNeeded: boolean): readonly SourceFile[] => {
  const files = bag.list('source', SOURCE_FILES_MAX);
  if (files.length === 0 && isNeeded) return refuse('source', [], 'at least the file that holds the handler');
  const seen = new Set<string>();
  let bytes = 0;
  const source = files.map((value, i): SourceFile => {
    const file = bagOf(value, `source[${i}]`, ['path', 'content']);
    const path = relativePath(file.text('path', 1, PATH_MAX), `source[${i}].path`);
    if (seen.has(path)) refuse(`source[${i}].path`, path, 'a path that no other source file has');
    seen.add(path);
    const content = file.text('content', 0, SOURCE_BYTES_MAX * 2);
    if (content.length % 4 !== 0 || !BASE64.test(content))
      refuse(`source[${i}].content`, content.slice(0, 40), 'base64');
    bytes += Buffer.byteLength(content, 'base64');
    if (bytes > SOURCE_BYTES_MAX)
      refuse('source', `${bytes} bytes`, `at most ${SOURCE_BYTES_MAX} bytes in all`);
    return { path, content };
  });
  refuseNesting(seen, 'source');
  return source;
};

export const parseDigest = (value: unknown, where: string): Digest =>
  typeof value === 'string' && DIGEST.test(value)
    ? value
    : refuse(where, value, '"sha256:" and 64 hexadecimal digits in lower case');

export const modelFilesOf = (value: unknown, where: string): readonly ModelFile[] => {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > MODEL_FILES_MAX) {
    const shown = Array.isArray(value) ? `${value.length} files` : value;
    return refuse(where, shown, `a list of at most ${MODEL_FILES_MAX} files {"path", "digest", "bytes"}`);
  }
  const seen = new Set<string>();
  const files = value.map((entry: unknown, i): ModelFile => {
    const at = `${where}[${i}]`;
    const file = bagOf(entry, at, ['path', 'digest', 'bytes']);
    const path = relativePath(file.text('path', 1, PATH_MAX), `${at}.path`);
    if (seen.has(path)) refuse(`${at}.path`, path, 'a path that no other file has');
    seen.add(path);
    return {
      path,
      digest: parseDigest(file.raw('digest'), `${at}.digest`),
      bytes: file.integer('bytes', 0, ARTIFACT_BYTES_MAX),
    };
  });
  refuseNesting(seen, where);
  return files;
};
