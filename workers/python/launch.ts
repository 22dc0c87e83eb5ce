/** How to start a Python function: the package's handler runtime in the function's interpreter. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import type { ProcessCommand } from '../process.ts';

/** The `sluice` package of this checkout or installation, for interpreters that do not have it. */
export const PACKAGE_DIRECTORY = fileURLToPath(new URL('../../python', import.meta.url));

/** Where the importable package lies, whatever the project's layout; null: the interpreter must have it. */
export const packagePath = (): string | null =>
  [`${PACKAGE_DIRECTORY}/src`, PACKAGE_DIRECTORY].find((path) => existsSync(`${path}/sluice/__init__.py`)) ??
  null;

/** The interpreter that the deploy ran in where this machine has it, else the server's, else the first on the path. */
export const interpreterOf = (spec: FunctionSpec, fallback: string | null): string => {
  const { interpreter } = spec.environment;
  return interpreter !== null && existsSync(interpreter) ? interpreter : (fallback ?? 'python3');
};

export const pythonCommand = (
  interpreter: string,
  directory: string,
  env: Readonly<Record<string, string>>,
): ProcessCommand => {
  const path = packagePath();
  const paths = [env.PYTHONPATH, path].filter((entry) => entry !== undefined && entry !== null);
  return {
    command: interpreter,
    args: ['-m', 'sluice.worker'],
    env: {
      ...env,
      PYTHONUNBUFFERED: '1',
      ...(paths.length > 0 ? { PYTHONPATH: paths.join(':') } : {}),
    },
    cwd: directory,
  };
};
