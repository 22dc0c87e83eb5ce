/**
 * Containers of a server that was killed: nothing ends them with it. They bear their owner and the process that started them;
 * where that process is gone, so is their use.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { ContainerTool } from './tool.ts';

const OWNER = 'sluice.owner';
const PROCESS = 'sluice.process';

const ownerLabel = (owner: string): string => createHash('sha256').update(owner).digest('hex').slice(0, 16);

/** A process id with its start, since ids come again; the start is unknown where there is no /proc. */
const processLabel = (pid: number): string | null => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return `${pid}-${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    return null;
  }
};

const isAlive = (label: string): boolean => {
  const pid = Number(label.split('-')[0]);
  if (process.platform === 'linux') return processLabel(pid) === label;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

export const labelsOf = (owner: string): Readonly<Record<string, string>> => ({
  [OWNER]: ownerLabel(owner),
  [PROCESS]: processLabel(process.pid) ?? `${process.pid}-`,
});

/** Removes what dead processes of this owner left; answers the names. */
export const removeLeftovers = async (tool: ContainerTool, owner: string): Promise<readonly string[]> => {
  const filter = ['--filter', `label=${OWNER}=${ownerLabel(owner)}`];
  const ids = (await tool.ask(['ps', '--all', '--quiet', '--no-trunc', ...filter]))
    .split('\n')
    .filter(Boolean);
  if (ids.length === 0) return [];
  const format = ['--format', `{{.Name}}\t{{index .Config.Labels "${PROCESS}"}}`];
  const lines = (await tool.ask(['inspect', ...format, ...ids])).split('\n');
  const names = lines
    .map((line) => line.split('\t'))
    .filter(([name, started]) => name && started && !isAlive(started))
    // docker writes a slash before names.
    .map(([name]) => name!.replace(/^\//, ''));
  if (names.length > 0) await tool.ask(['rm', '--force', '--volumes', ...names]);
  return names;
};
