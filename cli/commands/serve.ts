/**
 * `sluice dev` and `sluice serve`: a server in this process group, or on a shared store a part of one. Every setting is
 * a flag (`sluice config print`).
 */
import { type Command, Option } from 'commander';
import { clientEnvironment, settingsFromEnvironment } from '../../shared/config/environment.ts';
import {
  compileSettings,
  flagOf,
  REDIS_ONLY,
  SETTINGS,
  type SettingName,
  type Settings,
  shownSetting,
} from '../../shared/config/settings.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { LogFormat } from '../../shared/runtime/log.ts';
import { UsageError } from '../failure.ts';
import type { RunningServer } from '../server.ts';

type Flags = Readonly<Partial<Record<SettingName, string>>>;

const NAMES = Object.keys(SETTINGS) as SettingName[];

/** Most people need these; the others are listed by `sluice config print`. */
const SHOWN: readonly SettingName[] = ['host', 'port', 'data', 'logLevel', 'logFormat'];
const SHOWN_IN_SERVE: readonly SettingName[] = [
  ...SHOWN,
  'store',
  'role',
  'healthPort',
  'redisPrefix',
  's3Bucket',
];
/** What `sluice dev` decides itself: one process on the embedded store. */
const SHARED_ONLY: readonly SettingName[] = ['store', 'role', ...REDIS_ONLY];

const withSettings = (command: Command, shown: readonly SettingName[]): Command => {
  for (const name of NAMES) {
    const { about, fallback } = SETTINGS[name];
    const option = new Option(`${flagOf(name)} <value>`, `${about} (default: ${fallback ?? 'none'})`);
    command.addOption(shown.includes(name) ? option : option.hideHelp());
  }
  return command;
};

const MORE = '\nMore settings: sluice config print';

/** `sluice dev` stays what it is, and says so where it was told otherwise. */
const withoutShared = (raw: Flags): Flags => {
  const own = { ...raw };
  for (const name of SHARED_ONLY) {
    const value = own[name];
    delete own[name];
    if (value === undefined || value === SETTINGS[name].fallback) continue;
    process.stderr.write(
      `sluice: dev runs everything in one process on the embedded store; ${flagOf(name)} ${shownSetting(name, value)} is for \`sluice serve\`.\n`,
    );
  }
  return own;
};

const settingsOf = (flags: Flags, strict: boolean): Settings => {
  const { raw, unknown } = settingsFromEnvironment();
  for (const variable of unknown) {
    process.stderr.write(
      `sluice: ${variable} is not a setting and is ignored; \`sluice config print\` lists them.\n`,
    );
  }
  const given = { ...raw, ...flags };
  try {
    return compileSettings(strict ? given : withoutShared(given));
  } catch (error) {
    throw error instanceof SluiceError ? new UsageError(error.message) : error;
  }
};

const logFormatOf = ({ logFormat }: Settings, isWatched: boolean): LogFormat => {
  if (logFormat === 'auto') return isWatched ? 'lines' : 'json';
  return logFormat === 'lines' ? 'lines' : 'json';
};

/** One line that says what runs where, for people and for what starts it. */
const greeting = (settings: Settings, { address, grpcAddress, healthAddress }: RunningServer): string => {
  const { store, role, data, durability } = settings;
  const held =
    store === 'embedded'
      ? `data in ${data}, durability ${durability}`
      : `store ${shownSetting('store', store)}`;
  const what = address === null ? 'Sluice runs' : `Sluice listens on ${address}`;
  const roles = role === 'all' ? '' : `, role ${role}`;
  const health = healthAddress === null ? '' : `, health on ${healthAddress}`;
  const grpc = grpcAddress === null ? '' : `, gRPC on ${grpcAddress}`;
  return `${what} (${held}${roles}${grpc}${health})\n`;
};

const serve = async (flags: Flags, strict: boolean): Promise<void> => {
  const compiled = settingsOf(flags, strict);
  const logFormat = logFormatOf(compiled, process.stderr.isTTY && !strict);
  const settings = { ...compiled, logFormat };
  const [{ startServer }, { makeLog }, { keepCompiled }] = await Promise.all([
    import('../server.ts'),
    import('../../shared/runtime/log.ts'),
    import('../../shared/runtime/compiled-code.ts'),
  ]);
  const log = makeLog(settings.logLevel, {}, logFormat);
  const { python } = clientEnvironment();
  const server = await startServer(settings, log, { strict, python });
  process.stdout.write(greeting(settings, server));
  if (!strict) {
    process.stdout.write(`Dashboard: ${server.address}/   Next: sluice deploy FILE   Stop: Ctrl-C\n`);
  }
  keepCompiled();
  await untilStopped(server, settings.grace);
};

/** What closing takes beyond the grace, a disk that syncs slowly above all, before the process ends regardless. */
const OVERTIME_MS = 5000;

/** EX_SOFTWARE, as when the embedded store cannot commit: whoever started the process starts it again. */
const LOST_EXIT = 70;
/** What runs then cannot be settled any more: this is for callers to be told. */
const LOST_GRACE_MS = 2000;

/**
 * The first signal drains; a second one, or a drain that outlasts its grace, ends the process at once. It drains as well
 * when the store's data is lost: callers are told, and the next process begins on what is there.
 */
const untilStopped = ({ stop, lost }: RunningServer, graceMs: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let stopping = false;
    const leave = (withinMs: number): void => {
      stopping = true;
      setTimeout(() => process.exit(process.exitCode ?? 1), withinMs + OVERTIME_MS).unref();
      stop(withinMs).then((silent) => {
        if (silent === 'store')
          process.stderr.write(
            'sluice: the store does not answer; leaving without it. What was accepted is kept there.\n',
          );
        if (silent !== null) process.exit(process.exitCode ?? 0);
        resolve();
      }, reject);
    };
    const onSignal = (signal: NodeJS.Signals): void => {
      if (stopping) process.exit(signal === 'SIGINT' ? 130 : 143);
      process.stderr.write(
        `sluice: ${signal}: finishing what runs, at most ${graceMs / 1000} s (again: at once)\n`,
      );
      leave(graceMs);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    void lost.then((detail) => {
      if (stopping) return;
      process.stderr.write(`sluice: ${detail} This process leaves.\n`);
      process.exitCode = LOST_EXIT;
      leave(Math.min(graceMs, LOST_GRACE_MS));
    });
  });

export const registerServe = (program: Command): void => {
  withSettings(program.command('dev'), SHOWN)
    .description('start a server for development: runs what it can and says what it cannot honour')
    .addHelpText('after', MORE)
    .action((flags: Flags) => serve(flags, false));
  withSettings(program.command('serve'), SHOWN_IN_SERVE)
    .description(
      'start a server, or a part of one (--store, --role): functions whose options this machine cannot honour are refused',
    )
    .addHelpText('after', MORE)
    .action((flags: Flags) => serve(flags, true));
};
