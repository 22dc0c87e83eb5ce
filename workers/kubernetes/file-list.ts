/** One digest over a model version's list of files, so that an init container knows that it was told the right list. */
import { createHash } from 'node:crypto';
import type { ModelFile } from '../../shared/domain/model.ts';

export const filesDigest = (files: readonly ModelFile[]): string => {
  const lines = files.map(({ path, digest, bytes }) => JSON.stringify([path, digest, bytes]));
  return `sha256:${createHash('sha256').update(lines.toSorted().join('\n')).digest('hex')}`;
};
