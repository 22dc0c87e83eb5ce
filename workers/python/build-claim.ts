/** One builder at a time for each environment, among all workers that keep theirs in the same place. */
import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';

/** @param isHeld whether the process that claimed it lives */
type IsHeld = (host: string | undefined, pid: number, at: number) => boolean;

/** Notes in `file` that this process builds. The answer gives the claim back; null: another process builds now. */
export const claimBuild = async (file: string, isHeld: IsHeld): Promise<(() => Promise<void>) | null> => {
  const mine = `${file}-${randomUUID()}`;
  // Linked into its place whole, so that nobody reads half of it.
  await writeFile(mine, `${hostname()}~${process.pid}`);
  try {
    for (;;) {
      const isMine = await link(mine, file).then(() => true, isTaken);
      if (isMine) return () => rm(file, { force: true });
      if (await isLive(file, isHeld)) return null;
      await takeAway(file, isHeld);
    }
  } finally {
    await rm(mine, { force: true });
  }
};

const isTaken = (error: NodeJS.ErrnoException): false => {
  if (error.code === 'EEXIST') return false;
  throw error;
};

const isLive = async (file: string, isHeld: IsHeld): Promise<boolean> => {
  const facts = await stat(file).catch(() => null);
  const [host, pid] = (await readFile(file, 'utf8').catch(() => '')).split('~');
  return facts !== null && isHeld(host, Number(pid), facts.mtimeMs);
};

/** What a dead one left. Another may have taken it away, and claimed, just before: then its claim is put back. */
const takeAway = async (file: string, isHeld: IsHeld): Promise<void> => {
  const left = `${file}-${randomUUID()}`;
  const isMoved = await rename(file, left).then(
    () => true,
    () => false,
  );
  if (!isMoved) return;
  if (await isLive(left, isHeld)) await link(left, file).catch(() => undefined);
  await rm(left, { force: true });
};
