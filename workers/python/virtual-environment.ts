/**
 * Virtual environments of isolated functions: made once from the image's pip steps, named by what went into them, and
 * kept between starts of the server.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, rm, writeFile } from 'node:fs/promises';
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

const digestOf = ({ spec, interpreter }: BuildOptions): string =>
  createHash('sha256')
    .update(JSON.stringify([interpreter, spec.environment.steps.map(pipArguments)]))
    .digest('hex')
    .slice(0, 16);

/** Runs a command to its end; its last lines are the error's message when it fails. */
const runStep = (command: string, args: readonly string[], options: BuildOptions): Promise<void> =>
  new Promise((resolve, reject) => {
    const tail: string[] = [];
    options.onLine(`$ ${[command, ...args].join(' ')}`);
    const child = spawn(command, args, {
      cwd: options.root,
      env: { ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: STEP_MS_MAX,
      signal: options.signal,
    });
    for (const stream of [child.stdout, child.stderr] as Readable[]) {
      OutputLines.attach(stream, (text) => {
        tail.push(text);
        if (tail.length > TAIL_LINES) tail.shift();
        options.onLine(text);
      });
    }
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error([`${command} ended with ${signal ?? `code ${code}`}`, ...tail].join('\n')));
    });
  });

/** One build at a time for each environment, however many replicas ask. */
const building = new Map<string, Promise<string>>();

const build = async (directory: string, options: BuildOptions): Promise<string> => {
  const python = join(directory, 'bin', 'python');
  const complete = join(directory, 'complete');
  if (
    await access(complete).then(
      () => true,
      () => false,
    )
  )
    return python;
  await rm(directory, { recursive: true, force: true });
  await mkdir(options.root, { recursive: true, mode: 0o700 });
  await runStep(options.interpreter, ['-m', 'venv', directory], options);
  const install = ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-input'];
  await runStep(python, [...install, PACKAGE_DIRECTORY], options);
  for (const step of options.spec.environment.steps) {
    const args = pipArguments(step);
    if (args !== null) await runStep(python, [...install, ...args], options);
  }
  await writeFile(complete, '');
  return python;
};

/** The environment's interpreter; builds it when it is not there. Rejects with the failed command and its last lines. */
export const environmentInterpreter = (options: BuildOptions): Promise<string> => {
  const directory = join(options.root, digestOf(options));
  let made = building.get(directory);
  if (!made) {
    made = build(directory, options).finally(() => building.delete(directory));
    building.set(directory, made);
  }
  return made;
};
