/**
 * Holds a handler process to its memory limit: reads the resident size of the process and its descendants every
 * second (docs/decisions/0006 says why not RLIMIT_AS). Linux only; elsewhere the limit is reported as ignored.
 */
import { readdir, readFile } from 'node:fs/promises';

const PERIOD_MS = 1000;
/** A process tree deeper or wider than this is a fork bomb, which this watch does not claim to stop. */
const PROCESSES_MAX = 256;

export const canWatchMemory = process.platform === 'linux';

const childrenOf = async (pid: number): Promise<number[]> => {
  const tasks = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8').catch(() => '')),
  );
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
};

const residentBytes = async (pid: number): Promise<number> => {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
};

/** Resident bytes of the process and all that it started. */
export const treeBytes = async (pid: number): Promise<number> => {
  const seen = [pid];
  let bytes = 0;
  for (let i = 0; i < seen.length && i < PROCESSES_MAX; i += 1) {
    const next = seen[i] as number;
    bytes += await residentBytes(next);
    seen.push(...(await childrenOf(next)));
  }
  return bytes;
};

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
