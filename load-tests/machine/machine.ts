/** What a figure was measured on. A figure without its machine and its commit says nothing. */
import { execFileSync } from 'node:child_process';
import os from 'node:os';

export type Machine = {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly commit: string;
  /** Files outside load-tests/results/ that differ from the commit. */
  readonly changedFiles: number;
  readonly loadAverage: number;
};

const git = (...args: string[]): string => {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return '';
  }
};

export const describeMachine = (): Machine => {
  const changed = git('status', '--porcelain', '--', ':/', ':!/load-tests/results');
  return {
    cores: os.availableParallelism(),
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release().split('-', 1)[0]}`,
    node: process.version,
    commit: git('rev-parse', '--short=12', 'HEAD') || 'unknown',
    changedFiles: changed === '' ? 0 : changed.split('\n').length,
    loadAverage: Math.round(os.loadavg()[0]! * 100) / 100,
  };
};
