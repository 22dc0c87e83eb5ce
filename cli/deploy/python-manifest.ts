/** The functions of a Python file, as `python -m sluice.manifest FILE` lists them. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { SpecJson } from '../../sdk/index.ts';
import { clientEnvironment } from '../../shared/config/environment.ts';
import { CommandError } from '../failure.ts';
import { childOutput } from './child-output.ts';
import { packageRequirement } from './python-package.ts';

/** --python, else $SLUICE_PYTHON, else .venv/bin/python beside or above the file, else python3. */
export const interpreterFor = (file: string, given: string | null): string => {
  const chosen = given ?? clientEnvironment().python;
  if (chosen !== null) return chosen;
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const candidate = path.join(folder, '.venv', 'bin', 'python');
    if (existsSync(candidate)) return candidate;
    if (folder === path.dirname(folder)) return 'python3';
  }
};

/** 'ValueError: …', the end of a traceback, with the place in the user's file where there is one. */
const causeOf = (stderr: string, file: string): string => {
  const lines = stderr.trim().split('\n');
  const cause = lines.at(-1)?.trim() ?? '';
  const place = lines.findLast((line) => line.includes(`"${file}", line `));
  const line = place === undefined ? undefined : /line (\d+)/.exec(place)?.[1];
  return line === undefined ? cause : `line ${line}: ${cause}`;
};

const failure = (file: string, python: string, stderr: string): CommandError => {
  if (/No module named '?sluice/.test(stderr))
    return new CommandError(
      `${python} has no sluice package; install it there with \`${python} -m pip install ${packageRequirement()}\`, or choose another interpreter with --python.`,
    );
  return new CommandError(
    `${file} could not be read by ${python}: ${causeOf(stderr, file) || 'it ended without a word'}`,
  );
};

export const pythonSpecs = async (file: string, given: string | null): Promise<readonly SpecJson[]> => {
  const python = interpreterFor(file, given);
  const output = await childOutput(python, ['-m', 'sluice.manifest', file]).catch(() => {
    throw new CommandError(
      `${python} could not be started; name a Python interpreter with --python or SLUICE_PYTHON.`,
    );
  });
  if (output.code !== 0) throw failure(file, python, output.stderr);
  try {
    const manifest = JSON.parse(output.stdout) as readonly SpecJson[] | { functions: readonly SpecJson[] };
    return Array.isArray(manifest) ? manifest : (manifest as { functions: readonly SpecJson[] }).functions;
  } catch {
    throw failure(file, python, output.stderr || output.stdout);
  }
};
