/** `sluice call`: a few rows, answered here. */
import type { Command } from 'commander';
import { wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';

type CallOptions = ConnectionOptions & {
  readonly json?: string;
  readonly input?: string;
  readonly timeout?: number;
  readonly wait: boolean;
  readonly priority?: number;
  readonly lane?: string;
};

const ABOUT = `
Rows come from one of:
  key=value …            one row; a value that is JSON (3, true, [1,2], "3") is taken as that, anything else as text
  --json '{"rows": […]}'  or '{"columns": {…}}', or an array of rows
  --input FILE           a file of that JSON, or JSON Lines; - reads standard input
The results are one JSON array, one entry a row. Rows that failed are null there, are named on standard error, and make the exit code 1.`;

export const registerCall = (program: Command): void => {
  withConnection(
    program
      .command('call')
      .summary('send a few rows to a function and print the results')
      .description('Send a few rows to a function and print the results. For files, see `sluice run`.')
      .argument('<name>', 'function')
      .argument('[values...]', 'one row as key=value')
      .option('--json <text>', 'rows or columns as JSON')
      .option('--input <file>', 'file with JSON or JSON Lines; - for standard input')
      .option('--timeout <seconds>', 'how long to wait (default: until it is finished)', wholeNumber(0))
      .option('--no-wait', 'print the call id and do not wait')
      .option('--priority <n>', 'from -100 to 100, higher goes first', wholeNumber(-100, 100))
      .option('--lane <lane>', 'fairness key'),
  )
    .addHelpText('after', ABOUT)
    .action(async (name: string, values: string[], options: CallOptions) => {
      const { callFunction } = await import('../call/call-function.ts');
      await callFunction(await connect(options), name, values, {
        json: options.json ?? null,
        input: options.input ?? null,
        timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
        isWaiting: options.wait,
        submission: { priority: options.priority, lane: options.lane },
      });
    });
};
