/** The bucket that settings name, as the store in Redis takes it. */
import type { Settings } from '../../config/settings.ts';
import type { BucketOptions } from '../ports/server.ts';

export const bucketOf = ({
  s3Bucket,
  s3Endpoint,
  s3Region,
  s3Prefix,
  s3Threshold,
}: Settings): BucketOptions | null =>
  s3Bucket === ''
    ? null
    : {
        name: s3Bucket,
        endpoint: s3Endpoint,
        region: s3Region,
        prefix: s3Prefix,
        thresholdBytes: s3Threshold,
      };
