/** `sluice calls …` and `sluice cancel`: what was submitted, and what became of it. */
import type { Command } from 'commander';
import type { CallJson } from '../../sdk/index.ts';
import { wholeNumber } from '../arguments.ts';
import { awaited } from '../call/awaited-call.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { CommandError, UsageError } from '../failure.ts';
import { ago, counted, jsonValue, printJson, printTable } from '../print.ts';

type ListOptions = ConnectionOptions & {
  readonly function?: string;
  readonly status?: CallJson['status'];
  readonly limit: number;
  readonly cursor?: string;
  readonly json?: boolean;
};
type ResultOptions = ConnectionOptions & {
  readonly partial?: boolean;
  readonly output?: string;
  readonly json?: boolean;
  readonly timeout?: number;
};

const STATUSES = ['pending', 'running', 'completed', 'failed', 'cancelled', 'expired'];

const summary = (call: CallJson): string =>
  `${call.call_id} ${call.status}: ${call.counts.ok} of ${counted(call.rows, 'row')} ok, ${call.counts.failed} failed, ` +
  `${call.counts.cancelled} cancelled, ${call.counts.expired} expired, ${call.counts.unfinished} unfinished\n`;

const list = async (options: ListOptions): Promise<void> => {
  if (options.status !== undefined && !STATUSES.includes(options.status))
    throw new UsageError(`--status is "${options.status}"; give one of ${STATUSES.join(', ')}.`);
  const client = await connect(options);
  const { calls, nextCursor } = await client.calls({
    function: options.function,
    status: options.status,
    limit: options.limit,
    cursor: options.cursor,
  });
  // Calls of a function that was deleted are still listed; a name that never was is an error.
  if (calls.length === 0 && options.function !== undefined) await client.function(options.function).show();
  if (options.json) return printJson({ calls, next_cursor: nextCursor });
  printTable(
    ['CALL', 'FUNCTION', 'STATUS', 'ROWS', 'OK', 'FAILED', 'SUBMITTED'],
    calls.map((call) => [
      call.call_id,
      call.function,
      call.status,
      String(call.rows),
      String(call.counts.ok),
      String(call.counts.failed),
      ago(call.arrived_at),
    ]),
  );
  if (nextCursor !== null) process.stderr.write(`More with --cursor ${nextCursor}\n`);
};

const checkOk = (rows: number, rowsFailed: number, place: string): void => {
  if (rowsFailed > 0)
    throw new CommandError(
      `${rowsFailed} of ${counted(rows, 'row')} ${rowsFailed === 1 ? 'is' : 'are'} not ok; ${place}.`,
    );
};

const result = async (id: string, options: ResultOptions): Promise<void> => {
  const { partial = false, output, json = false } = options;
  if (output !== undefined && json)
    throw new UsageError('--json prints, and --output writes an Arrow stream; give one of them.');
  const handle = (await connect(options)).call(id);
  const timeoutMs = options.timeout === undefined ? 0 : options.timeout * 1000;
  if (output !== undefined) {
    const { bytes, call } = partial ? await handle.partialArrow() : await handle.arrow({ timeoutMs });
    const { writeFile } = await import('node:fs/promises');
    await writeFile(output, bytes);
    if (!partial) checkOk(call.rows, call.rowsFailed, `see the column "error" of ${output}`);
    return;
  }
  const { values, errors } = partial ? await handle.partial() : await handle.result({ timeoutMs });
  if (json) printJson({ result: values, errors: [...errors].map(([row, error]) => ({ row, ...error })) });
  else process.stdout.write(`${JSON.stringify(values, jsonValue)}\n`);
  if (!partial)
    checkOk(values.length, errors.size, json ? 'their errors are printed' : 'see them with --json');
};

const wait = async (
  id: string,
  options: ConnectionOptions & { timeout?: number; json?: boolean },
): Promise<void> => {
  const client = await connect(options);
  const handle = client.call(id);
  const timeoutMs = options.timeout === undefined ? undefined : options.timeout * 1000;
  await awaited(client, handle, await handle.status(), timeoutMs);
  const call = await handle.status();
  if (options.json) printJson(call);
  else process.stdout.write(summary(call));
  if (call.status !== 'completed')
    throw new CommandError(
      `The call is ${call.status}; \`sluice calls result ${id} --json\` shows the errors.`,
    );
};

const cancel = async (ids: readonly string[], options: ConnectionOptions): Promise<void> => {
  const client = await connect(options);
  for (const id of ids) process.stdout.write(summary(await client.cancel(id)));
};

export const registerCalls = (program: Command): void => {
  const calls = program
    .command('calls')
    .summary('list, show, wait for and cancel calls')
    .description('What was submitted, and what became of it. Without a subcommand: list.');
  withConnection(
    calls
      .command('list', { isDefault: true })
      .description('Calls, newest first.')
      .option('--function <name>', 'of this function only')
      .option('--status <status>', STATUSES.join(', '))
      .option('--limit <n>', 'at most this many', wholeNumber(1, 1000), 20)
      .option('--cursor <cursor>', 'go on after the last page')
      .option('--json', 'print JSON'),
  ).action(list);
  withConnection(calls.command('show <id>').description('One call, as JSON.')).action(
    async (id: string, options: ConnectionOptions) =>
      printJson(await (await connect(options)).call(id).status()),
  );
  withConnection(
    calls
      .command('result <id>')
      .description(
        'The results of a finished call as a JSON array, or an Arrow stream with --output; exit code 1 when a row is not ok.',
      )
      .option('--partial', 'what is finished so far; exit code 0')
      .option('--output <file>', 'write an Arrow IPC stream to this file')
      .option('--json', 'print results and errors by row')
      .option('--timeout <seconds>', 'wait this long when it is not finished', wholeNumber(0)),
  ).action(result);
  withConnection(
    calls
      .command('wait <id>')
      .description('Wait until a call is finished; exit code 1 when a row of it is not ok.')
      .option('--timeout <seconds>', 'at most this long (default: until it is finished)', wholeNumber(0))
      .option('--json', 'print the call as JSON'),
  ).action(wait);
  withConnection(calls.command('cancel <id...>').description('Cancel what is not finished.')).action(cancel);
  withConnection(
    program
      .command('cancel <id...>')
      .summary('cancel what is not finished of one or more calls')
      .description('Cancel what is not finished of one or more calls.'),
  ).action(cancel);
};
