/** Opens the storage of artifacts from plain data: threads and processes each open their own client of the same place. */
import type { Artifacts } from '../ports/artifacts.ts';
import type { ArtifactsOptions } from './artifacts-settings.ts';
import { BucketArtifacts } from './bucket-artifacts.ts';
import { DirectoryArtifacts } from './directory-artifacts.ts';

export { type ArtifactsOptions, artifactsOptionsOf, artifactsWarning } from './artifacts-settings.ts';
export { hexOf } from './digest-text.ts';
export { type Swept, sweepUnreferenced } from './sweep.ts';

/** Nothing is opened, or made, before it is needed. */
export const openArtifacts = (options: ArtifactsOptions): Artifacts => {
  if (options.kind === 'bucket') return new BucketArtifacts(options);
  return new DirectoryArtifacts(options.directory, options.reserveBytes);
};
export { storeWhole, type WholeArtifact } from './whole-artifact.ts';
