/** `sluice groups inferences …` and `sluice groups drift …`: what a group was asked and answered, and how far that has moved. */
import type { Command } from 'commander';
import type { DriftJson, DriftRequestJson, Sluice } from '../../sdk/index.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { CommandError, UsageError } from '../failure.ts';
import { printDrift, printFiles } from '../inferences/inference-views.ts';
import { spanMs, timeText } from '../inferences/time-options.ts';
import { printJson, span } from '../print.ts';

type InferencesOptions = ConnectionOptions & {
  readonly from?: string;
  readonly until?: string;
  readonly output?: string;
  readonly limit: number;
  readonly python?: string;
  readonly json?: boolean;
};

const ABOUT_FILES = `
Times are such as 2026-11-01 or 2026-11-01T12:00:00Z (UTC without a zone), or spans ago such as 12h. Single columns, filters and
joins of the same rows: sluice sql "select input, output from inference_store('NAME', now() - interval 12 hours)".`;

/** Of `--from` and `--until`; null where one was not given. */
const timeOf = (option: '--from' | '--until', text: string | undefined): string | null =>
  text === undefined ? null : timeText(option, text);

const writeRows = async (name: string, options: InferencesOptions & { output: string }): Promise<void> => {
  const { runQuery } = await import('../sql/run-query.ts');
  const literal = (text: string | null): string =>
    text === null ? 'null' : `'${text.replaceAll("'", "''")}'`;
  const span = [timeOf('--from', options.from), timeOf('--until', options.until)].map(literal);
  await runQuery(`select * from inference_store(${[literal(name), ...span].join(', ')})`, {
    ...options,
    onError: 'fail',
    concurrentChunks: 16,
  });
};

const sayNothing = async (client: Sluice, name: string, isWhole: boolean): Promise<void> => {
  const store = (await client.scalingGroups.get(name)).inference_store;
  const text =
    store === null
      ? `${name} has no inference store; \`sluice groups update ${name} --inference-store\` gives it one.`
      : `${name} has no inference files${isWhole ? ' yet' : ' of this time'}; rows are in a file ${span(store.flush_ms)} after they were answered at most.`;
  process.stdout.write(`${text}\n`);
};

const inferences = async (name: string, options: InferencesOptions): Promise<void> => {
  const { output } = options;
  if (output !== undefined) return writeRows(name, { ...options, output });
  const client = await connect(options);
  const [from, until] = [timeOf('--from', options.from), timeOf('--until', options.until)];
  const files = await client.scalingGroups.inferenceFiles(name, {
    from: from ?? undefined,
    until: until ?? undefined,
    limit: options.limit,
  });
  if (options.json) return printJson({ inference_files: files });
  if (files.length === 0) return sayNothing(client, name, from === null && until === null);
  printFiles(files);
  if (files.length === options.limit)
    process.stderr.write('There may be more: give --from, --until or a larger --limit.\n');
};

type DriftOptions = ConnectionOptions & {
  readonly referenceFrom?: string;
  readonly referenceUntil?: string;
  readonly window?: string;
  readonly end?: boolean;
  readonly json?: boolean;
};

const WINDOW = '1d';

/** What is to be set; null: nothing, it is only looked at. `now`: what spans ago count from. */
export const driftOf = (
  options: DriftOptions,
  before: DriftJson | null,
  now: number = Date.now(),
): DriftRequestJson | null => {
  const { referenceFrom: from, referenceUntil: until, window } = options;
  const isReferred = from !== undefined || until !== undefined;
  if (isReferred && (from === undefined || until === undefined))
    throw new UsageError('A reference has two ends: give --reference-from and --reference-until.');
  if (!isReferred && window === undefined) return null;
  if (!isReferred && before === null)
    throw new UsageError('There is no reference yet: give --reference-from and --reference-until as well.');
  return {
    reference: isReferred
      ? {
          from: timeText('--reference-from', from!, now),
          until: timeText('--reference-until', until!, now),
        }
      : before!.reference,
    window_ms:
      window === undefined && before !== null ? before.window_ms : spanMs('--window', window ?? WINDOW),
  };
};

/** null: the group compares nothing. */
const foundDrift = async (client: Sluice, name: string): Promise<DriftJson | null> => {
  try {
    return await client.scalingGroups.drift(name);
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'drift_not_found') return null;
    throw error;
  }
};

const endDrift = async (client: Sluice, name: string, options: DriftOptions): Promise<void> => {
  if (options.referenceFrom ?? options.referenceUntil ?? options.window)
    throw new UsageError('--end goes without a reference and without a window.');
  await client.scalingGroups.endDrift(name);
  process.stdout.write(`${name} is compared no more.\n`);
};

const drift = async (name: string, options: DriftOptions): Promise<void> => {
  const client = await connect(options);
  if (options.end) return endDrift(client, name, options);
  const before = await foundDrift(client, name);
  const wanted = driftOf(options, before);
  const shown = wanted === null ? before : await client.scalingGroups.setDrift(name, wanted);
  if (shown === null)
    throw new CommandError(
      `${name} is compared with no reference. Set one with \`sluice groups drift ${name} --reference-from TIME --reference-until TIME\`.`,
    );
  if (options.json) printJson(shown);
  else printDrift(shown);
};

const ABOUT_DRIFT = `
The rows of the window, which ends now, are compared with those of the reference, which stands: once a minute, column by column,
as PSI (above 0.2 is commonly called a shift) and KS. The group needs an inference store; files of the reference are kept while
it is set. Times are such as 2026-11-01 or 2026-11-01T12:00:00Z (UTC without a zone), or spans ago such as 12h.`;

export const registerInferences = (groups: Command): void => {
  withConnection(
    groups
      .command('inferences <name>')
      .description(
        'What a group with an inference store was asked and answered: its files, or their rows in one.',
      )
      .option('--from <time>', 'rows from this time on')
      .option('--until <time>', 'rows before this time')
      .option('--output <file>', 'write the rows to a .parquet, .csv, .arrow or .arrows')
      .option('--limit <n>', 'at most this many files in the list', wholeNumber(1, 1_000_000), 1000)
      .option('--python <path>', 'interpreter that has the sluice package and DuckDB, for --output')
      .option('--json', 'print JSON'),
  )
    .addHelpText('after', ABOUT_FILES)
    .action(inferences);
  withConnection(
    groups
      .command('drift <name>')
      .description(
        'How far the columns of a group have moved from a reference; sets the reference where one is given.',
      )
      .option('--reference-from <time>', 'beginning of the reference')
      .option('--reference-until <time>', 'end of the reference')
      .option('--window <span>', `what is compared with it, up to now (default: ${WINDOW})`)
      .option('--end', 'compare no more')
      .option('--json', 'print JSON'),
  )
    .addHelpText('after', ABOUT_DRIFT)
    .action(drift);
};
