/** One digest over a model version's files and source, so that an init container knows that it was told the right ones. */
import { createHash } from 'node:crypto';
import type { SourceFile } from '../../shared/domain/function.ts';
import type { ModelFile } from '../../shared/domain/model.ts';

export const listDigest = (files: readonly ModelFile[], source: readonly SourceFile[]): string => {
  const lines = [
    ...files.map(({ path, digest, bytes }) => JSON.stringify(['file', path, digest, bytes])),
    ...source.map(({ path, content }) => JSON.stringify(['source', path, content])),
  ];
  return `sha256:${createHash('sha256').update(lines.toSorted().join('\n')).digest('hex')}`;
};
