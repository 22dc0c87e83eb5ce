/**
 * Virtual environments of isolated functions: made from the image's pip steps, and named by what went into them.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { FunctionSpec, ImageStep } from '../../shared/domain/function.ts';
import { OutputLines } from '../output-lines.ts';
import { PACKAGE_DIRECTORY } from './launch.ts';

/** Installing torch over a slow line takes minutes; longer than this hangs. */
const STEP_MS_MAX = 1_800_000;
const TAIL_LINES = 20;

/** A shell word without expansions, redirections or further commands. */
const WORD = /"[^"$`\\]*"|'[^']*'|[^\s;&|<>$`\\'"()]+/g;
const PIP_INSTALL = new RegExp(
  `^\\s*(?:python3?\\s+-m\\s+)?pip3?\\s+install((?:\\s+(?:${WORD.source}))+)\\s*$`,
);

/** Arguments of `pip install` for a step; null: not a pip step. A run command counts when it is one plain `pip install`. */
export const pipArguments = (step: ImageStep): readonly string[] | null => {
  if ('pip_install' in step) return step.pip_install;
  if (!('run' in step)) return null;
  const words = PIP_INSTALL.exec(step.run)?.[1]?.match(WORD);
  return words?.map((word) => word.replace(/^(["'])(.*)\1$/, '$2')) ?? null;
};

export type BuildOptions = {
  readonly spec: FunctionSpec;
  /** Makes the environment. */
  readonly interpreter: string;
  /** Environments of all functions lie here. */
  readonly root: string;
  readonly env: Readonly<Record<string, string>>;
  readonly onLine: (text: string) => void;
  /** Ends a build that runs. */
  readonly signal: AbortSignal;
};

export const environmentName = ({ spec, interpreter }: Pick<BuildOptions, 'spec' | 'interpreter'>): string =>
  createHash('sha256')
    .update(JSON.stringify([interpreter, spec.environment.steps.map(pipArguments)]))
    .digest('hex')
    .slice(0, 16);

/** With what it started itself: pip builds packages in processes of their own. */
const killGroup = (pid: number | undefined): void => {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has gone meanwhile.
  }
};

/** Runs a command to its end; its last lines are the error's message when it fails. */
const runStep = async (command: string, args: readonly string[], options: BuildOptions): Promise<void> => {
  const limit = AbortSignal.timeout(STEP_MS_MAX);
  const signal = AbortSignal.any([limit, options.signal]);
  signal.throwIfAborted();
  const tail: string[] = [];
  options.onLine(`$ ${[command, ...args].join(' ')}`);
  const child = spawn(command, args, {
    cwd: options.root,
    env: { ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  for (const stream of [child.stdout, child.stderr] as Readable[]) {
    OutputLines.attach(stream, (text) => {
      tail.push(text);
      if (tail.length > TAIL_LINES) tail.shift();
      options.onLine(text);
    });
  }
  const kill = (): void => killGroup(child.pid);
  signal.addEventListener('abort', kill, { once: true });
  const end = await new Promise<string | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, killed) => resolve(code === 0 ? null : (killed ?? `code ${code}`)));
  }).finally(() => signal.removeEventListener('abort', kill));
  options.signal.throwIfAborted();
  const how = limit.aborted ? `was ended after ${STEP_MS_MAX / 60_000} minutes` : `ended with ${end}`;
  if (end !== null) throw new Error([`${command} ${how}`, ...tail].join('\n'));
};

export const interpreterIn = (directory: string): string => join(directory, 'bin', 'python');

/** Builds it anew; `complete` in it says that nothing is missing. What did not get so far is removed. */
export const buildEnvironment = async (directory: string, options: BuildOptions): Promise<void> => {
  await rm(directory, { recursive: true, force: true });
  await mkdir(options.root, { recursive: true, mode: 0o700 });
  try {
    await runStep(options.interpreter, ['-m', 'venv', directory], options);
    const python = interpreterIn(directory);
    const install = ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-input'];
    await runStep(python, [...install, PACKAGE_DIRECTORY], options);
    for (const step of options.spec.environment.steps) {
      const args = pipArguments(step);
      if (args !== null) await runStep(python, [...install, ...args], options);
    }
    await writeFile(join(directory, 'complete'), '');
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
};
