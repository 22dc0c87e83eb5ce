/** `sluice config print`: every setting of the server with its value, where that comes from, and what it means. */
import type { Command } from 'commander';
import { printJson, printTable } from '../print.ts';

const print = async (options: { json?: boolean }): Promise<void> => {
  const [{ compileSettings, flagOf, SETTINGS, shownSetting, variableOf }, { settingsFromEnvironment }] =
    await Promise.all([
      import('../../shared/config/settings.ts'),
      import('../../shared/config/environment.ts'),
    ]);
  const { raw, unknown } = settingsFromEnvironment();
  const settings = compileSettings(raw);
  const rows = (Object.keys(SETTINGS) as (keyof typeof SETTINGS)[]).map((name) => ({
    setting: name,
    // An address may hold a password, which is never printed.
    value: typeof settings[name] === 'string' ? shownSetting(name, settings[name]) : settings[name],
    from: raw[name] === undefined ? 'default' : variableOf(name),
    flag: flagOf(name),
    variable: variableOf(name),
    about: SETTINGS[name].about,
  }));
  if (options.json) printJson({ settings: rows, unknown });
  else
    printTable(
      ['FLAG', 'VARIABLE', 'VALUE', 'FROM', 'ABOUT'],
      rows.map((row) => [
        row.flag,
        row.variable,
        row.value === null ? 'none' : String(row.value),
        row.from === 'default' ? 'default' : 'environment',
        row.about,
      ]),
    );
  for (const variable of unknown)
    process.stderr.write(`${variable} is set and names no setting; is it a typing error?\n`);
};

export const registerConfig = (program: Command): void => {
  program
    .command('config')
    .summary('show the settings of the server')
    .description(
      'Settings of `sluice dev` and `sluice serve`. Flags win over the environment, which wins over defaults.',
    )
    .command('print', { isDefault: true })
    .description(
      'Every setting with its value, where it comes from, and what it means. Bytes and milliseconds.',
    )
    .option('--json', 'print JSON')
    .action(print);
};
