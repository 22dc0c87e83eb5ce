/** `sluice migrate`: everything that one store holds goes into another one (docs/decisions/0010). */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { settingsFromEnvironment } from '../../shared/config/environment.ts';
import { compileSettings, flagOf, SETTINGS, type Settings } from '../../shared/config/settings.ts';
import { artifactsOptionsOf } from '../../shared/store/artifacts/artifacts-settings.ts';
import { bucketOf } from '../../shared/store/bucket/bucket-settings.ts';
import type { BucketOptions } from '../../shared/store/ports/server.ts';
import type { TransferCounts, TransferSource, TransferTarget } from '../../shared/store/ports/transfer.ts';
import { UsageError } from '../failure.ts';
import { printJson, printTable } from '../print.ts';

const BUCKET_SETTINGS = ['s3Bucket', 's3Endpoint', 's3Region', 's3Prefix', 's3Threshold'] as const;

type Options = { readonly [K in (typeof BUCKET_SETTINGS)[number]]?: string } & {
  readonly from: string;
  readonly to: string;
  readonly redisPrefix: string;
  readonly abandon?: boolean;
  readonly json?: boolean;
};

const FORMS = 'embedded:DIRECTORY or the address of a Redis such as redis://host:6379';

/** The directory of `embedded:DIRECTORY`; null for another kind of store. */
const directoryOf = (option: string, text: string): string | null => {
  const match = /^embedded:(.+)$/.exec(text);
  if (match?.[1] !== undefined) return path.resolve(match[1]);
  if (/^rediss?(?:[+-]\w+)?:\/\//.test(text)) return null;
  throw new UsageError(`${option} is "${text}"; give ${FORMS}.`);
};

/** Those of the side in Redis, by flags and variables as its servers are given them. */
const settingsBeside = (store: string, options: Options): Settings => {
  const { raw } = settingsFromEnvironment();
  const given: Record<string, string> = { store };
  if (raw.artifacts !== undefined) given.artifacts = raw.artifacts;
  for (const name of BUCKET_SETTINGS) {
    const value = options[name] ?? raw[name];
    if (value !== undefined) given[name] = value;
  }
  return compileSettings(given);
};

const bucketBeside = (store: string, options: Options): BucketOptions | null =>
  bucketOf(settingsBeside(store, options));

/** Where servers of a Redis keep model files; null: in a bucket, or not on this machine. */
const artifactsBeside = (store: string, options: Options): string | null => {
  const kept = artifactsOptionsOf(settingsBeside(store, options));
  return kept.kind === 'directory' && existsSync(kept.directory) ? kept.directory : null;
};

const openSource = async (options: Options): Promise<TransferSource> => {
  const directory = directoryOf('--from', options.from);
  if (directory === null) {
    const { openRedisSource } = await import('../../shared/store/redis/transfer-source.ts');
    return openRedisSource(options.from, options.redisPrefix, bucketBeside(options.from, options));
  }
  const { openEmbeddedSource } = await import('../../shared/store/embedded/transfer-source.ts');
  return openEmbeddedSource(directory);
};

const openTarget = async (options: Options): Promise<TransferTarget> => {
  const directory = directoryOf('--to', options.to);
  if (directory === null) {
    const { openRedisTarget } = await import('../../shared/store/redis/transfer-target.ts');
    return openRedisTarget(options.to, options.redisPrefix, bucketBeside(options.to, options));
  }
  const { openEmbeddedTarget } = await import('../../shared/store/embedded/transfer-target.ts');
  return openEmbeddedTarget(directory);
};

const rowsOf = ({ rows, ...counts }: TransferCounts): [string, number][] => [
  ['functions', counts.functions],
  ['their versions', counts.versions],
  ['staged versions', counts.stagedVersions],
  ['functions with a scaling', counts.scalings],
  ['API keys', counts.keys],
  ['documents (models, scaling groups)', counts.documents],
  ['unfinished calls', counts.unfinishedCalls],
  ['finished calls', counts.finishedCalls],
  ['idempotency keys', counts.idempotencyKeys],
  ['sealed batches', counts.openBatches],
  ['rows without an outcome', rows.open],
  ['rows ok', rows.ok],
  ['rows failed', rows.failed],
  ['rows cancelled', rows.cancelled],
  ['rows expired', rows.expired],
];

/**
 * Model files are apart from the store and stay where they are. Says what has to be copied, null where there is nothing.
 *
 * @param directories of both sides, null for a Redis; `kept`: where the servers of a Redis that is left keep model files
 */
const artifactsToCopy = (
  counts: TransferCounts | null,
  {
    from,
    to,
    kept,
  }: { readonly from: string | null; readonly to: string | null; readonly kept: string | null },
): string | null => {
  const artifacts = from === null ? null : path.join(from, 'artifacts');
  if (artifacts !== null && existsSync(artifacts)) {
    if (to !== null) return `Model files do not move: cp -r ${artifacts} ${to}`;
    return `Model files do not move: cp -r ${artifacts}/. DIRECTORY, and serve with --artifacts DIRECTORY`;
  }
  if ((counts?.documents ?? 0) === 0) return null;
  if (kept !== null) {
    const way =
      to === null ? `serve with --artifacts ${kept}` : `cp -r ${kept}/. ${path.join(to, 'artifacts')}`;
    return `Model files do not move: ${way} (the old servers' --artifacts, if they had another one)`;
  }
  return 'Model files do not move: give the new servers the --artifacts or the --s3-bucket of the old ones, or a copy of it.';
};

const migrate = async (options: Options): Promise<void> => {
  const { transfer, abandonTransfer } = await import('../../shared/store/transfer.ts');
  const [from, to] = [directoryOf('--from', options.from), directoryOf('--to', options.to)];
  if (options.from === options.to || (from !== null && from === to))
    throw new UsageError('--from and --to are the same place; give two.');
  const source = await openSource(options);
  try {
    const target = await openTarget(options);
    try {
      if (options.abandon) {
        await abandonTransfer(source, target, Date.now());
        process.stdout.write(
          `${source.place} may be served again; empty ${target.place} before you use it.\n`,
        );
        return;
      }
      const onProgress = ({ calls }: { readonly calls: number }): void => {
        if (process.stderr.isTTY) process.stderr.write(`\r${calls} calls moved`);
      };
      const report = await transfer(source, target, Date.now(), onProgress);
      if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
      const kept = from === null ? artifactsBeside(options.from, options) : null;
      const hint = artifactsToCopy(report.counts, { from, to, kept });
      print({ counts: report.counts, hint, from: source.place, to: target.place }, options.json === true);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
};

type Moved = {
  readonly counts: TransferCounts | null;
  readonly hint: string | null;
  readonly from: string;
  readonly to: string;
};

const print = ({ counts, hint, from, to }: Moved, isJson: boolean): void => {
  if (isJson) {
    printJson({ from, to, moved: counts !== null, counts, artifacts: hint });
    return;
  }
  if (counts === null) {
    process.stdout.write(`Everything in ${from} had moved to ${to} already.\n`);
    if (hint !== null) process.stdout.write(`${hint}\n`);
    return;
  }
  printTable(
    ['MOVED', 'COUNT'],
    rowsOf(counts).map(([name, n]) => [name, String(n)]),
  );
  process.stdout.write(
    `Both sides agree. Serve ${to} from now on; call ids given out before go on working.\n`,
  );
  if (hint !== null) process.stdout.write(`${hint}\n`);
};

export const registerMigrate = (program: Command): void => {
  const command = program
    .command('migrate')
    .summary('move everything from one store to another')
    .description(
      'Moves functions, models, scaling groups, API keys, waiting calls and unexpired results from a store that nobody serves into an empty one. ' +
        'Cut off, it goes on when it is run again; nothing is moved twice.',
    )
    .requiredOption('--from <store>', FORMS)
    .requiredOption('--to <store>', FORMS)
    .option('--redis-prefix <prefix>', 'what every key in Redis begins with', 'sluice')
    .option('--abandon', 'give up a migration that has not finished: the source may be served again')
    .option('--json', 'print JSON')
    .action(migrate);
  for (const name of BUCKET_SETTINGS) command.option(`${flagOf(name)} <value>`, SETTINGS[name].about);
};
