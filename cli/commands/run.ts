/** `sluice run`: a file of rows through a function into a file of results. */
import type { Command } from 'commander';
import { collected, wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';

type RunOptions = ConnectionOptions & {
  readonly function: string;
  readonly input: string;
  readonly output: string;
  readonly column?: string[];
  readonly keep?: string[];
  readonly chunkSize: number;
  readonly concurrentChunks: number;
  readonly onError: string;
  readonly json?: boolean;
};

const ABOUT = `
Formats go by the file names: .parquet, .csv, .tsv, .jsonl (.ndjson), .arrow (.feather, .ipc), .arrows in; .parquet, .arrow
(.feather, .ipc), .arrows out. Cells of CSV for binary inputs are base64. Parquet has no times in whole seconds and no date64:
they become milliseconds and timestamps; .arrow keeps them. Dictionaries become their values. CSV and JSON Lines are UTF-8, and
the columns of JSON Lines are those of its first 1,000 rows.

The output has the input's rows in their order: the other columns of the input (ids stay beside their results), then
"result". --keep id keeps only the columns named, --keep none keeps none, --keep all also keeps those that were sent.
With --on-error null a column "error" says what became of the rows whose result is null: those that the function failed, and those
that the server refused, as a null in a column that takes none, or a row that alone is too large for a call. A cell of a text file that is not of its column's type ends
the run in any case. Messages count rows from 0, without the header, and lines of text files from 1.

A run that was cut off goes on where it was when the same command is given again: finished chunks lie in OUTPUT.parts,
each under the digest of its rows and the function's version. The output appears in one step when all is done, and
replaces a file of its name.`;

export const registerRun = (program: Command): void => {
  withConnection(
    program
      .command('run')
      .summary('run a file of rows through a function into a file of results')
      .description('Run every row of a file through a function, and write the results beside the rows.')
      .requiredOption('--function <name>', 'function')
      .requiredOption('--input <file>', 'Parquet, CSV, JSON Lines or Arrow')
      .requiredOption('--output <file>', 'Parquet or Arrow')
      .option(
        '--column <column>',
        "column to send; input=column renames; repeatable (default: the function's inputs by name)",
        collected,
      )
      .option(
        '--keep <column>',
        'column of the input to keep in the output; repeatable; all, none',
        collected,
      )
      .option('--chunk-size <rows>', 'rows of a call', wholeNumber(1, 1_000_000), 1000)
      .option('--concurrent-chunks <n>', 'calls in flight at most', wholeNumber(1, 1000), 16)
      .option(
        '--on-error <what>',
        'fail: stop at the first failed or refused row; null: go on, its result is null',
        'fail',
      )
      .option('--json', 'print one line of JSON at the end instead of a progress bar'),
  )
    .addHelpText('after', ABOUT)
    .action(async (options: RunOptions) => {
      const { runFile } = await import('../run/run-file.ts');
      await runFile(await connect(options), {
        functionName: options.function,
        input: options.input,
        output: options.output,
        columns: options.column ?? [],
        keep: options.keep ?? null,
        chunkRows: options.chunkSize,
        concurrentChunks: options.concurrentChunks,
        onError: options.onError,
        isJson: options.json === true,
      });
    });
};
