/** `sluice dev` and `sluice serve`: a server in this process group. Every setting is a flag (`sluice config print`). */
import { type Command, Option } from 'commander';
import { clientEnvironment, settingsFromEnvironment } from '../../shared/config/environment.ts';
import {
  compileSettings,
  flagOf,
  SETTINGS,
  type SettingName,
  type Settings,
} from '../../shared/config/settings.ts';

type Flags = Readonly<Partial<Record<SettingName, string>>>;

const NAMES = Object.keys(SETTINGS) as SettingName[];

/** Most people need these; the others are listed by `sluice config print`. */
const SHOWN: readonly SettingName[] = ['host', 'port', 'data', 'logLevel'];

const withSettings = (command: Command): Command => {
  for (const name of NAMES) {
    const { about, fallback } = SETTINGS[name];
    const option = new Option(`${flagOf(name)} <value>`, `${about} (default: ${fallback})`);
    command.addOption(SHOWN.includes(name) ? option : option.hideHelp());
  }
  return command;
};

const settingsOf = (flags: Flags): Settings => {
  const { raw, unknown } = settingsFromEnvironment();
  for (const variable of unknown) {
    process.stderr.write(
      `sluice: ${variable} is not a setting and is ignored; \`sluice config print\` lists them.\n`,
    );
  }
  return compileSettings({ ...raw, ...flags });
};

const serve = async (flags: Flags, strict: boolean): Promise<void> => {
  const settings = settingsOf(flags);
  const [{ startServer }, { makeLog }] = await Promise.all([
    import('../server.ts'),
    import('../../shared/runtime/log.ts'),
  ]);
  const log = makeLog(settings.logLevel);
  const { python } = clientEnvironment();
  const server = await startServer(settings, log, { strict, python });
  process.stdout.write(
    `Sluice listens on ${server.address} (data in ${settings.data}, durability ${settings.durability})\n`,
  );
  if (!strict) {
    process.stdout.write(`Dashboard: ${server.address}/   Next: sluice deploy FILE   Stop: Ctrl-C\n`);
  }
  await untilStopped(server.stop, settings.grace);
};

/** The first signal drains; a second one, or a drain that outlasts its grace by far, ends the process at once. */
const untilStopped = (stop: () => Promise<void>, graceMs: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let stopping = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (stopping) process.exit(signal === 'SIGINT' ? 130 : 143);
      stopping = true;
      process.stderr.write(
        `sluice: ${signal}: finishing what runs, at most ${graceMs / 1000} s (again: at once)\n`,
      );
      setTimeout(() => process.exit(1), graceMs * 2 + 10_000).unref();
      stop().then(resolve, reject);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });

export const registerServe = (program: Command): void => {
  withSettings(program.command('dev'))
    .description('start a server for development: runs what it can and says what it cannot honour')
    .action((flags: Flags) => serve(flags, false));
  withSettings(program.command('serve'))
    .description('start a server: functions whose options this machine cannot honour are refused')
    .action((flags: Flags) => serve(flags, true));
};
