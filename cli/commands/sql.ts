/** `sluice sql`: a query of DuckDB's SQL that calls deployed functions. */
import type { Command } from 'commander';
import { collected, wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, withConnection } from '../connection.ts';
import { packageRequirement } from '../deploy/python-package.ts';

type SqlOptions = ConnectionOptions & {
  readonly format?: string;
  readonly output?: string;
  readonly param?: string[];
  readonly onError: string;
  readonly concurrentChunks: number;
  readonly python?: string;
};

const ABOUT = `
  sluice sql "select id, catalog_call('model.house-price-sg', sqft, rooms) as price from 'houses.parquet'"

catalog_call('function', …) calls any deployed function with its arguments in the order of the function's inputs, many rows
a call and many calls at once, anywhere in a SELECT where an expression of one row may stand. Each row that is evaluated is
one row of a call: to use a result twice, compute it in a subquery.

inference_store('group' [, from [, until]]) is a table of what a scaling group with an inference store was asked and answered:
time, call_id, row, model, model_version, status, error_message, input (input.sqft is one of its columns), output, and more. Times
are UTC, as '2026-11-01' or now() - interval 1 hour. Its files are fetched before the query runs, and removed when it has ended:

  sluice sql "select input.sqft, output from inference_store('house-price-sg', now() - interval 1 day) where status = 'ok'"

Files are tables by their names in quotes: Parquet, CSV, JSON. --param name=value gives $name its value; a value that is JSON
(3, true, "3") is taken as that, anything else as text.

DuckDB runs in Python: that of --python, else $SLUICE_PYTHON, else .venv here or above, with \`pip install ${packageRequirement('[sql]')}\`.`;

export const registerSql = (program: Command): void => {
  withConnection(
    program
      .command('sql')
      .summary('run SQL on files, with functions called in it')
      .description(
        "Run a query of DuckDB's SQL in which catalog_call(…) calls functions and inference_store(…) is a table of answered rows.",
      )
      .argument('<query>', 'one SELECT; - reads standard input')
      .option('--format <format>', 'table, csv, json or ndjson (default: table on a terminal, else csv)')
      .option('--output <file>', 'write .parquet, .csv, .arrow or .arrows instead')
      .option('--param <name=value>', 'value of $name; repeatable', collected)
      .option(
        '--on-error <what>',
        'fail: stop at the first failed row; null: go on, its result is null',
        'fail',
      )
      .option('--concurrent-chunks <n>', 'calls in flight at most', wholeNumber(1, 256), 16)
      .option('--python <path>', 'interpreter that has the sluice package and DuckDB'),
  )
    .addHelpText('after', ABOUT)
    .action(async (query: string, options: SqlOptions) => {
      const { runQuery } = await import('../sql/run-query.ts');
      await runQuery(query, options);
    });
};
