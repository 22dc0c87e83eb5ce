/** CPU time and memory of a process and all that it started, read from /proc (Linux). */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks a second in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

type ProcessStat = { readonly parent: number; readonly ticks: number };

/** null when the process is gone. */
const statOf = (pid: number): ProcessStat | null => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // state ppid … utime stime cutime cstime: fields 3, 4, 14 to 17 of proc(5), counted from 1.
    const ticks = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0);
    return { parent: Number(fields[1]), ticks };
  } catch {
    return null;
  }
};

/** The root and its descendants. */
export const treeOf = (root: number): Map<number, ProcessStat> => {
  const stats = new Map<number, ProcessStat>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? statOf(Number(name)) : null;
    if (stat) stats.set(Number(name), stat);
  }
  const belongs = (pid: number): boolean => {
    for (let at = pid; at > 1; at = stats.get(at)?.parent ?? 0) if (at === root) return true;
    return false;
  };
  return new Map([...stats].filter(([pid]) => belongs(pid)));
};

/** User and system time of the tree so far, with that of children that have ended and were waited for. */
export const cpuSecondsOf = (root: number): number => {
  let ticks = 0;
  for (const stat of treeOf(root).values()) ticks += stat.ticks;
  return ticks / TICKS_PER_SECOND;
};

/** CPU time that the whole machine has spent since it started, idle and waiting time left out. */
export const machineSeconds = (): number => {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'latin1')
    .split('\n', 1)[0]!
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user! + nice! + system! + irq! + softirq!) / TICKS_PER_SECOND;
};

const residentBytesOf = (pid: number): number => {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
};

const isPython = (pid: number): boolean => {
  try {
    return /(^|\/)python[\d.]*\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1'));
  } catch {
    return false;
  }
};

/** Resident memory in bytes: `server` without the Python handler processes, `tree` with them. */
export const memoryOf = (root: number): { server: number; tree: number } => {
  const memory = { server: 0, tree: 0 };
  for (const pid of treeOf(root).keys()) {
    const bytes = residentBytesOf(pid);
    memory.tree += bytes;
    if (!isPython(pid)) memory.server += bytes;
  }
  return memory;
};

/** Watches memory until `stop`, which answers the peaks. */
export const watchMemory = (
  root: number,
  everyMs = 200,
): { stop: () => { server: number; tree: number } } => {
  const peak = { server: 0, tree: 0 };
  const look = (): void => {
    const now = memoryOf(root);
    peak.server = Math.max(peak.server, now.server);
    peak.tree = Math.max(peak.tree, now.tree);
  };
  look();
  const timer = setInterval(look, everyMs);
  return {
    stop: () => {
      clearInterval(timer);
      look();
      return peak;
    },
  };
};
