/** What a deploy has done to one function, in a line. */
import type { FunctionJson, Sluice } from '../../sdk/index.ts';
import { SluiceError } from '../../sdk/index.ts';

/** What `sluice functions update` changes of a version while it runs, until it is deployed again. */
const LIVE_LIMITS = ['max_batching_size', 'max_buffer_duration', 'max_batch_bytes'] as const;

type Seen = Pick<FunctionJson, 'name' | 'version' | 'spec'>;

/** The function as it is before a deploy; undefined where there is none, or the key may not read it. */
export const functionBefore = (client: Sluice, name: string): Promise<FunctionJson | undefined> =>
  client
    .function(name)
    .show()
    .catch((error: unknown) => {
      if (error instanceof SluiceError && (error.status === 404 || error.status === 403)) return undefined;
      throw error;
    });

export const deployedLine = (fn: Seen, isNew: boolean, before: Seen | undefined): string => {
  const head = `${fn.name} ${fn.version}`;
  if (isNew) return `${head} is deployed`;
  const known = `${head} was deployed before`;
  if (before === undefined) return known;
  if (before.version !== fn.version) return `${known}; it is current again, in place of ${before.version}`;
  const resets = LIVE_LIMITS.filter((limit) => before.spec[limit] !== fn.spec[limit]).map(
    (limit) => `${limit} is ${fn.spec[limit] ?? 'not set'} again (it was ${before.spec[limit] ?? 'not set'})`,
  );
  return `${known}; ${resets.join('; ') || 'nothing changed'}`;
};
