/** What `sluice sql` does: DuckDB runs in a Python process of its own, which shares this one's input and output. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { clientEnvironment, ownEnvironment } from '../../shared/config/environment.ts';
import type { ConnectionOptions } from '../connection.ts';
import { interpreterFor } from '../deploy/python-manifest.ts';
import { CommandError, EXIT_FAILED, EXIT_INTERRUPTED, UsageError } from '../failure.ts';

export type QueryOptions = ConnectionOptions & {
  readonly format?: string;
  readonly output?: string;
  readonly param?: readonly string[];
  readonly onError: string;
  readonly concurrentChunks: number;
  readonly python?: string;
};

const FORMATS = ['table', 'csv', 'json', 'ndjson'];
const OUTPUTS = ['.parquet', '.csv', '.arrow', '.arrows'];
/** What a Python without the package says is one line; more than this is shown from its end. */
const ERROR_CHARACTERS_MAX = 64 * 1024;

/** @throws UsageError naming the option */
export const checkQueryOptions = ({ format, output, onError, param }: QueryOptions): void => {
  if (format !== undefined && !FORMATS.includes(format))
    throw new UsageError(`--format is "${format}"; give one of ${FORMATS.join(', ')}.`);
  if (format !== undefined && output !== undefined)
    throw new UsageError('Give either --output, whose name says the format, or --format.');
  if (output !== undefined && !OUTPUTS.includes(path.extname(output).toLowerCase()))
    throw new UsageError(`--output is ${output}; its name must end in one of ${OUTPUTS.join(', ')}.`);
  if (onError !== 'fail' && onError !== 'null')
    throw new UsageError(`--on-error is "${onError}"; give fail or null.`);
  const unnamed = param?.find((text) => !/^[A-Za-z_]\w*=/.test(text));
  if (unnamed !== undefined) throw new UsageError(`--param ${unnamed} is not name=value.`);
};

const parametersOf = (query: string, options: QueryOptions): string[] => [
  ...['-m', 'sluice.query_command', '--on-error', options.onError],
  ...['--concurrent-chunks', String(options.concurrentChunks)],
  ...(options.format === undefined ? [] : ['--format', options.format]),
  ...(options.output === undefined ? [] : ['--output', options.output]),
  ...(options.param ?? []).flatMap((text) => ['--param', text]),
  // A query may begin with a comment: -- price of each house
  ...['--', query],
];

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

const ended = (python: string, query: string, options: QueryOptions): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(python, parametersOf(query, options), {
      stdio: ['inherit', 'inherit', 'pipe'],
      env: environmentOf(options),
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

export const runQuery = async (query: string, options: QueryOptions): Promise<void> => {
  checkQueryOptions(options);
  const python = interpreterFor(path.resolve('query.sql'), options.python ?? null);
  const { code, stderr } = await ended(python, query, options).catch(() => {
    throw new CommandError(
      `${python} could not be started; name a Python interpreter with --python or SLUICE_PYTHON.`,
    );
  });
  if (code !== 0 && /No module named '?sluice|No module named .?sluice\.query_command/.test(stderr))
    throw new CommandError(
      `${python} has no sluice package with SQL; install it there with \`${python} -m pip install './python[sql]'\`, or choose another interpreter with --python.`,
    );
  process.stderr.write(stderr);
  process.exitCode = code;
};
