/** Artifacts that nothing refers to any more, and uploads that were given up. */
import type { Digest } from '../../domain/model.ts';
import type { Artifacts } from '../ports/artifacts.ts';

const DAY_MS = 86_400_000;

export type Swept = { readonly artifacts: number; readonly bytes: number; readonly uploads: number };

/**
 * Removes what was stored, or asked for, longer ago than `olderThanMs` and is not referred to, and uploads that nobody
 * added to for a day. Who is about to refer to an artifact asks for its state first, which makes it young again.
 */
export const sweepUnreferenced = async (
  artifacts: Artifacts,
  isReferenced: (digest: Digest) => boolean | Promise<boolean>,
  olderThanMs: number,
  now: number = Date.now(),
): Promise<Swept> => {
  const swept = { artifacts: 0, bytes: 0, uploads: 0 };
  const storedBefore = now - olderThanMs;
  for await (const { digest, bytes, storedAt } of artifacts.list()) {
    if (storedAt >= storedBefore || (await isReferenced(digest))) continue;
    if (!(await artifacts.remove(digest, storedBefore))) continue;
    swept.artifacts += 1;
    swept.bytes += bytes;
  }
  swept.uploads = await artifacts.dropUploads(now - DAY_MS);
  return swept;
};
