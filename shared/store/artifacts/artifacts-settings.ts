/** Where the settings put artifacts. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Settings } from '../../config/settings.ts';
import { bucketOf } from '../bucket/bucket-settings.ts';
import type { BucketOptions } from '../ports/server.ts';

/** Plain data, so that it goes to threads. */
export type ArtifactsOptions =
  | {
      readonly kind: 'directory';
      /** Made when the first artifact comes. */
      readonly directory: string;
      /** Free bytes of the file system that are left to others. */
      readonly reserveBytes: number;
    }
  | {
      readonly kind: 'bucket';
      readonly bucket: BucketOptions;
      /** Where `file` puts what it fetched. */
      readonly cacheDirectory: string;
      /** Of the cache; what was not asked for longest goes first. */
      readonly cacheBytesMax: number;
      readonly reserveBytes: number;
    };

export const artifactsOptionsOf = (settings: Settings): ArtifactsOptions => {
  const { store, artifacts, data, diskReserve: reserveBytes } = settings;
  const bucket = bucketOf(settings);
  if (artifacts === '' && bucket !== null)
    return {
      kind: 'bucket',
      bucket,
      cacheDirectory: resolve(settings.artifactsCache || join(homedir(), '.cache', 'sluice', 'artifacts')),
      cacheBytesMax: settings.artifactsCacheLimit,
      reserveBytes,
    };
  const own = store === 'embedded' ? join(data, 'artifacts') : sharedDirectory();
  return { kind: 'directory', directory: resolve(artifacts || own), reserveBytes };
};

const sharedDirectory = (): string => join(homedir(), '.local', 'share', 'sluice', 'artifacts');

/** What a person should know who gave no place on a shared store; null: nothing. */
export const artifactsWarning = ({ store, artifacts, s3Bucket }: Settings): string | null =>
  store === 'embedded' || artifacts !== '' || s3Bucket !== ''
    ? null
    : `artifacts of models are kept in ${sharedDirectory()}, which all processes of this store must share; ` +
      'give --artifacts with a shared directory, or --s3-bucket';
