/** What a process and all that it started use of this machine, as /proc tells it; nothing where there is no /proc. */
import { readdir, readFile } from 'node:fs/promises';

/** A tree deeper or wider than this is a fork bomb, which this does not claim to follow. */
const PROCESSES_MAX = 256;
/** USER_HZ: what /proc counts CPU time in, the same on every architecture that Node runs on. */
const TICKS_PER_S = 100;

export type TreeUsage = { readonly cpuMs: number; readonly memoryBytes: number };

const childrenOf = async (pid: number): Promise<number[]> => {
  const tasks = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8').catch(() => '')),
  );
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
};

const textOf = (pid: number, file: 'status' | 'stat'): Promise<string> =>
  readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');

const residentBytes = async (pid: number): Promise<number> =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(await textOf(pid, 'status'))?.[1] ?? 0) * 1024;

/** Own time and that of children that are gone already, which /proc/PID/stat has in its fields 14 to 17. */
const cpuMs = async (pid: number): Promise<number> => {
  const stat = await textOf(pid, 'stat');
  // The second field is the program's name, which may hold spaces and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return stat === '' ? 0 : (ticks * 1000) / TICKS_PER_S;
};

const tree = async (pid: number): Promise<number[]> => {
  const seen = [pid];
  for (let i = 0; i < seen.length && seen.length < PROCESSES_MAX; i += 1)
    seen.push(...(await childrenOf(seen[i]!)));
  return seen.slice(0, PROCESSES_MAX);
};

const total = async (pids: readonly number[], of: (pid: number) => Promise<number>): Promise<number> => {
  let sum = 0;
  for (const pid of pids) sum += await of(pid);
  return sum;
};

/** Resident bytes of the process and all that it started. */
export const treeBytes = async (pid: number): Promise<number> => total(await tree(pid), residentBytes);

/** CPU milliseconds since the start, and resident bytes. null: it is gone, or nobody can tell. */
export const treeUsage = async (pid: number): Promise<TreeUsage | null> => {
  if ((await textOf(pid, 'stat')) === '') return null;
  const pids = await tree(pid);
  return { cpuMs: await total(pids, cpuMs), memoryBytes: await total(pids, residentBytes) };
};
