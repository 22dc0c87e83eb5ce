/** `sluice functions logs` and `sluice groups logs`: the lines of a function, by its own name or its group's. */
import type { Command } from 'commander';
import { wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { printJson, printLogs } from '../print.ts';

type LogsOptions = ConnectionOptions & { readonly limit: number; readonly json?: boolean };

export const registerLogs = (
  parent: Command,
  description: string,
  functionOf: (name: string) => string,
): void => {
  withConnection(
    parent
      .command('logs <name>')
      .description(description)
      .option('--limit <n>', 'at most this many lines', wholeNumber(1, 10_000), 200)
      .option('--json', 'print JSON'),
  ).action(async (name: string, options: LogsOptions) => {
    const lines = await (await connect(options)).logs(functionOf(name), { limit: options.limit });
    if (options.json) printJson({ lines });
    else printLogs(lines);
  });
};
