/**
 * Holds a handler process to its memory limit: reads the resident size of the process and its descendants every
 * second (docs/decisions/0006 says why not RLIMIT_AS). Linux only; elsewhere the limit is reported as ignored.
 */
import { treeBytes } from './process-tree.ts';

const PERIOD_MS = 1000;

export const canWatchMemory = process.platform === 'linux';

export const bytesText = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;

/** Calls `onExceeded` once with the bytes in use when the tree is above its limit; the answer ends the watch. */
export const watchMemory = (
  pid: number,
  bytesMax: number,
  onExceeded: (bytes: number) => void,
): (() => void) => {
  let busy = false;
  const timer = setInterval(async () => {
    if (busy) return;
    busy = true;
    const bytes = await treeBytes(pid);
    busy = false;
    if (bytes <= bytesMax) return;
    clearInterval(timer);
    onExceeded(bytes);
  }, PERIOD_MS);
  timer.unref();
  return () => clearInterval(timer);
};
