/** `sluice functions …`, `sluice pause` and `sluice resume`. */
import type { Command } from 'commander';
import type { FunctionJson, Sluice } from '../../sdk/index.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { CommandError, UsageError } from '../failure.ts';
import { ago, counted, lastLine, printJson, printTable, span } from '../print.ts';
import { registerLogs } from './logs.ts';

type JsonOption = ConnectionOptions & { readonly json?: boolean };
type UpdateOptions = ConnectionOptions & {
  readonly maxBatchingSize?: number | null;
  readonly maxBufferDuration?: number | null;
  readonly maxBatchBytes?: number;
};

/** A replica that starts while there is a reason waits for something, which the reason names. */
const cannotStart = ({ ready, starting, reason }: FunctionJson['replicas'][number]): boolean =>
  reason !== null && ready === 0 && starting === 0;

const stateOf = (fn: FunctionJson): string => {
  if (fn.paused) return 'paused';
  const current = fn.replicas.find(({ version }) => version === fn.version);
  if (!current) return 'idle';
  if (cannotStart(current)) return 'cannot start';
  return current.ready > 0 ? 'ready' : 'starting';
};

const list = async (options: JsonOption): Promise<void> => {
  const functions = await (await connect(options)).functions();
  if (options.json) return printJson({ functions });
  if (functions.length === 0) {
    process.stdout.write('No functions yet; register one with `sluice deploy FILE`.\n');
    return;
  }
  printTable(
    ['FUNCTION', 'VERSION', 'STATE', 'REPLICAS', 'WAITING', 'RUNNING', 'OLDEST', 'UPDATED'],
    functions.map((fn) => [
      fn.name,
      fn.version,
      stateOf(fn),
      String(fn.replicas.reduce((sum, replica) => sum + replica.ready, 0)),
      String(fn.queue.waiting_rows),
      String(fn.queue.sealed_rows),
      fn.queue.oldest_ms === null ? '-' : span(fn.queue.oldest_ms),
      ago(fn.updated_at),
    ]),
  );
  for (const fn of functions) {
    const replica = fn.replicas.find(({ reason }) => reason !== null);
    if (replica?.reason)
      process.stderr.write(
        `${fn.name} ${cannotStart(replica) ? 'cannot start' : 'is not wholly up'}: ${lastLine(replica.reason)} (\`sluice functions show ${fn.name}\`)\n`,
      );
  }
};

const update = async (name: string, options: UpdateOptions): Promise<void> => {
  const limits = {
    ...(options.maxBatchingSize === undefined ? {} : { max_batching_size: options.maxBatchingSize }),
    ...(options.maxBufferDuration === undefined ? {} : { max_buffer_duration: options.maxBufferDuration }),
    ...(options.maxBatchBytes === undefined ? {} : { max_batch_bytes: options.maxBatchBytes }),
  };
  if (Object.keys(limits).length === 0)
    throw new UsageError(
      'Give what to change: --max-batching-size, --max-buffer-duration or --max-batch-bytes.',
    );
  await (await connect(options)).update(name, limits);
  process.stdout.write(`${name} takes the new limits from the next batch on.\n`);
};

const orNone = (parse: (text: string) => number) => (text: string) => (text === 'none' ? null : parse(text));

export const registerFunctions = (program: Command): void => {
  const functions = program
    .command('functions')
    .summary('list, show, update and delete functions')
    .description('What is deployed, and how it is doing. Without a subcommand: list.');
  withConnection(
    functions
      .command('list', { isDefault: true })
      .description('Functions with their queues and replicas.')
      .option('--json', 'print JSON'),
  ).action(list);
  withConnection(
    functions.command('show <name>').description('One function: versions, schema, queue, replicas; as JSON.'),
  ).action(async (name: string, options: ConnectionOptions) =>
    printJson(await (await connect(options)).function(name).show()),
  );
  registerLogs(functions, 'The last lines that its handlers printed.', (name) => name);
  withConnection(
    functions
      .command('update <name>')
      .description('Change the batching limits, from the next batch on.')
      .option('--max-batching-size <rows>', 'rows of a batch at most, or none', orNone(wholeNumber(1)))
      .option('--max-buffer-duration <ms>', 'longest wait of the oldest row, or none', orNone(wholeNumber(0)))
      .option('--max-batch-bytes <bytes>', 'bytes of a batch at most', wholeNumber(1)),
  ).action(update);
  registerMoves(functions);
  registerPause(program);
};

const remove = async (name: string, options: ConnectionOptions): Promise<void> => {
  try {
    await (await connect(options)).delete(name);
  } catch (error) {
    if (!(error instanceof SluiceError) || error.code !== 'function_busy') throw error;
    throw new CommandError(`${error.message} \`sluice functions purge ${name}\` cancels them.`);
  }
  process.stdout.write(`${name} is deleted.\n`);
};

const registerMoves = (functions: Command): void => {
  withConnection(
    functions
      .command('repin <name>')
      .description('Move the waiting calls of one version to another with the same schemas.')
      .requiredOption('--from <version>', 'version whose calls move')
      .requiredOption('--to <version>', 'version that they move to'),
  ).action(async (name: string, options: ConnectionOptions & { from: string; to: string }) => {
    const { calls } = await (await connect(options)).repin(name, { from: options.from, to: options.to });
    process.stdout.write(
      `${counted(calls, 'call')} of ${name} moved from ${options.from} to ${options.to}.\n`,
    );
  });
  withConnection(
    functions.command('purge <name>').description('Cancel every unfinished call of a function.'),
  ).action(async (name: string, options: ConnectionOptions) => {
    const { calls, rows } = await (await connect(options)).purge(name);
    process.stdout.write(
      `${counted(calls, 'call')} of ${name} with ${counted(rows, 'row')} ${calls === 1 ? 'is' : 'are'} cancelled.\n`,
    );
  });
  withConnection(
    functions.command('delete <name>').description('Delete a function that has no unfinished calls.'),
  ).action(remove);
};

/** Read before the function goes on, since they may be gone afterwards; null: the key may not read. */
const waitingRows = async (client: Sluice, name: string): Promise<number | null> => {
  try {
    return (await client.function(name).show()).queue.waiting_rows;
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'forbidden') return null;
    throw error;
  }
};

const registerPause = (program: Command): void => {
  withConnection(
    program
      .command('pause <name>')
      .summary('admit calls to a function, but start no batch')
      .description('Admit calls to a function, but start no batch.'),
  ).action(async (name: string, options: ConnectionOptions) => {
    const fn = await (await connect(options)).pause(name);
    process.stdout.write(
      `${name} is paused with ${counted(fn.queue.waiting_rows, 'row')} waiting; \`sluice resume ${name}\` goes on.\n`,
    );
  });
  withConnection(
    program
      .command('resume <name>')
      .summary('let a paused function go on')
      .description('Let a paused function go on.'),
  ).action(async (name: string, options: ConnectionOptions) => {
    const client = await connect(options);
    const rows = await waitingRows(client, name);
    await client.resume(name);
    const waiting = rows === null ? '' : ` with ${counted(rows, 'waiting row')}`;
    process.stdout.write(`${name} goes on${waiting}.\n`);
  });
};
