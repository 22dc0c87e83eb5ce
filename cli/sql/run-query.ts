/** What `sluice sql` does: DuckDB runs in a Python process of its own, which shares this one's input and output. */
import path from 'node:path';
import type { ConnectionOptions } from '../connection.ts';
import { runPythonCommand } from '../deploy/python-command.ts';
import { UsageError } from '../failure.ts';

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
  ...['--on-error', options.onError],
  ...['--concurrent-chunks', String(options.concurrentChunks)],
  ...(options.format === undefined ? [] : ['--format', options.format]),
  ...(options.output === undefined ? [] : ['--output', options.output]),
  ...(options.param ?? []).flatMap((text) => ['--param', text]),
  // A query may begin with a comment: -- price of each house
  ...['--', query],
];

export const runQuery = async (query: string, options: QueryOptions): Promise<void> => {
  checkQueryOptions(options);
  await runPythonCommand(
    {
      module: 'sluice.query_command',
      parameters: parametersOf(query, options),
      file: path.resolve('query.sql'),
      extra: { name: '[sql]', purpose: 'SQL' },
    },
    options,
  );
};
