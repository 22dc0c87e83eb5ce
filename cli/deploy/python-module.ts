/** A module of the Python package as a process of its own, which shares this one's input and output. */
import { spawn } from 'node:child_process';
import { clientEnvironment, ownEnvironment } from '../../shared/config/environment.ts';
import type { ConnectionOptions } from '../connection.ts';
import { CommandError, EXIT_FAILED, EXIT_INTERRUPTED } from '../failure.ts';

/** What a Python without the package says is one line; more than this is shown from its end. */
const ERROR_CHARACTERS_MAX = 64 * 1024;

export type PythonModule = {
  readonly python: string;
  /** `-m`, the module, and what it takes. */
  readonly parameters: readonly string[];
  readonly connection: ConnectionOptions;
};

const environmentOf = (options: ConnectionOptions): Record<string, string | undefined> => {
  const { url, apiKey } = clientEnvironment();
  const key = options.apiKey ?? apiKey;
  return {
    ...ownEnvironment(),
    SLUICE_URL: options.url ?? url,
    ...(key === null ? {} : { SLUICE_API_KEY: key }),
  };
};

type Ended = { readonly code: number; readonly stderr: string };

const ended = ({ python, parameters, connection }: PythonModule): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(python, parameters, {
      stdio: ['inherit', 'inherit', 'pipe'],
      env: environmentOf(connection),
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-ERROR_CHARACTERS_MAX);
    });
    // Ctrl-C reaches the child as well, which cancels its calls and ends; this process waits for it.
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal === 'SIGTERM' ? 'SIGINT' : signal);
    const ignore = (): void => undefined;
    process.on('SIGTERM', pass).on('SIGINT', process.stdin.isTTY ? ignore : pass);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      process.off('SIGTERM', pass).off('SIGINT', process.stdin.isTTY ? ignore : pass);
      resolve({ code: code ?? (signal === 'SIGINT' ? EXIT_INTERRUPTED : EXIT_FAILED), stderr });
    });
  });

/**
 * Ends this command as the module ends.
 * @param install what pip is to install where the package is not there, and why
 */
export const runPythonModule = async (
  module: PythonModule,
  install: { readonly pattern: RegExp; readonly what: string; readonly requirement: string },
): Promise<void> => {
  const { python } = module;
  const { code, stderr } = await ended(module).catch(() => {
    throw new CommandError(
      `${python} could not be started; name a Python interpreter with --python or SLUICE_PYTHON.`,
    );
  });
  if (code !== 0 && install.pattern.test(stderr))
    throw new CommandError(
      `${python} has no sluice package${install.what}; install it there with \`${python} -m pip install ${install.requirement}\`, or choose another interpreter with --python.`,
    );
  process.stderr.write(stderr);
  process.exitCode = code;
};
