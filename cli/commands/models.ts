/** `sluice models …`: what is registered, and curated models. */
import type { Command } from 'commander';
import type { VersionName } from '../../sdk/index.ts';
import { collected, wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { byteText, fieldList, printVersions } from '../models/group-views.ts';
import type { ImportOptions } from '../models/import-model.ts';
import { ago, printJson, printTable } from '../print.ts';

type JsonOption = ConnectionOptions & { readonly json?: boolean };

const list = async (options: JsonOption): Promise<void> => {
  const models = await (await connect(options)).models.list();
  if (options.json) return printJson({ models });
  if (models.length === 0) {
    process.stdout.write('No models yet; register one from Python, or add one of `sluice models catalog`.\n');
    return;
  }
  printTable(
    ['MODEL', 'LATEST', 'VERSIONS', 'ALIASES', 'UPDATED', 'DESCRIPTION'],
    models.map((model) => [
      model.name,
      String(model.latest_version ?? '-'),
      String(model.versions.length),
      Object.entries(model.aliases)
        .map(([alias, version]) => `${alias}=${version}`)
        .join(', ') || '-',
      ago(model.updated_at),
      model.description,
    ]),
  );
};

const show = async (name: string, version: VersionName | undefined, options: JsonOption): Promise<void> => {
  const { models } = await connect(options);
  const shown = await models.version(name, version ?? 'latest');
  if (options.json) return printJson(shown);
  const model = await models.get(name);
  if (model.description !== '') process.stdout.write(`${model.description}\n\n`);
  printVersions([shown]);
  process.stdout.write(
    `\ninputs:  ${fieldList(shown.inputs) || 'any columns'}\noutputs: ${fieldList(shown.outputs) || 'JSON'}\n`,
  );
  if (shown.dependencies.length > 0) process.stdout.write(`needs:   ${shown.dependencies.join(', ')}\n`);
  for (const { path, bytes, digest } of shown.files)
    process.stdout.write(`${path}  ${byteText(bytes)}  ${digest}\n`);
  for (const [key, text] of Object.entries(shown.metadata)) process.stdout.write(`${key} = ${text}\n`);
};

const versions = async (name: string, options: JsonOption & { limit: number }): Promise<void> => {
  const found = await (await connect(options)).models.versions(name, { limit: options.limit });
  if (options.json) printJson({ versions: found });
  else printVersions(found);
};

const compare = async (name: string, from: string, to: string, options: JsonOption): Promise<void> => {
  const comparison = await (await connect(options)).models.compare(name, from, to);
  if (options.json) return printJson(comparison);
  const { differences, files, source } = comparison;
  if (differences.length + files.length + source.length === 0) process.stdout.write('They are the same.\n');
  for (const { field, from: before, to: after } of differences)
    process.stdout.write(`${field}: ${JSON.stringify(before)} → ${JSON.stringify(after)}\n`);
  for (const { path, change } of [...source, ...files]) process.stdout.write(`${path}: ${change}\n`);
};

const alias = async (
  name: string,
  text: string,
  version: number | undefined,
  options: ConnectionOptions & { remove?: boolean },
): Promise<void> => {
  const { models } = await connect(options);
  if (options.remove === true) {
    await models.removeAlias(name, text);
    process.stdout.write(`${name} has no alias ${text} any more.\n`);
    return;
  }
  const target = version ?? (await models.version(name)).version;
  await models.setAlias(name, text, target);
  process.stdout.write(`${text} of ${name} is version ${target}.\n`);
};

const stage = async (
  name: string,
  version: string,
  text: string,
  options: ConnectionOptions,
): Promise<void> => {
  const changed = await (await connect(options)).models.setStage(
    name,
    version,
    text === 'none' ? null : text,
  );
  process.stdout.write(`Version ${changed.version} of ${name} is ${changed.stage ?? 'in no stage'}.\n`);
};

const remove = async (
  name: string,
  version: string | undefined,
  options: ConnectionOptions,
): Promise<void> => {
  await (await connect(options)).models.remove(name, version);
  process.stdout.write(`${version === undefined ? name : `Version ${version} of ${name}`} is deleted.\n`);
};

const json = ['--json', 'print JSON'] as const;

const registerReading = (models: Command): void => {
  withConnection(
    models
      .command('list', { isDefault: true })
      .description('Models, by name.')
      .option(...json),
  ).action(list);
  withConnection(
    models
      .command('show <name> [version]')
      .description('A version: number, alias or latest (default), with its schema and files.')
      .option(...json),
  ).action(show);
  withConnection(
    models
      .command('versions <name>')
      .description('Versions, newest first.')
      .option('--limit <n>', 'at most this many', wholeNumber(1), 100)
      .option(...json),
  ).action(versions);
  withConnection(
    models
      .command('compare <name> <from> <to>')
      .description('What differs between two versions.')
      .option(...json),
  ).action(compare);
};

const registerChanging = (models: Command): void => {
  withConnection(
    models
      .command('alias')
      .argument('<name>')
      .argument('<alias>')
      .argument('[version]', 'number (default: the latest)', wholeNumber(1))
      .description('Point an alias to a version.')
      .option('--remove', 'remove the alias'),
  ).action(alias);
  withConnection(
    models
      .command('stage <name> <version> <stage>')
      .description('Set the stage of a version: any short word, or none.'),
  ).action(stage);
  withConnection(
    models
      .command('delete <name> [version]')
      .description('Delete a version, or the model with all of them. Refused while a group runs it.'),
  ).action(remove);
  withConnection(
    models
      .command('register <name> <file>')
      .description('Register a version from a file of JSON, as POST /v1/models/NAME/versions takes it.')
      .addHelpText(
        'after',
        '\nIn FILE, "source" and "files" may be lists of paths beside it: they are read, and files are uploaded.',
      )
      .option(...json),
  ).action(async (name: string, file: string, options: JsonOption) => {
    const { registerFile } = await import('../models/register-file.ts');
    const version = await registerFile(await connect(options), name, file);
    if (options.json) printJson(version);
    else process.stdout.write(`Version ${version.version} of ${name} is registered.\n`);
  });
};

const registerImporting = (models: Command): void => {
  withConnection(
    models
      .command('import <project> <name> <source>')
      .description(
        'Import files for an inference engine: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, or a folder.',
      )
      .option('--summary <text>', 'what the model is')
      .option('--label <version>', 'what its maker calls this version')
      .option('--task-type <type>', 'what it does, as the engine is told')
      .option('--class-labels <file>', 'a label a line, or JSON: a list, or label and index')
      .option(
        '--input <NAME=TYPE>',
        'input column, as sqft=float64; repeatable (default: any columns)',
        collected,
      )
      .option(
        '--output <NAME=TYPE>',
        'output column, as price=float64; repeatable (default: JSON)',
        collected,
      )
      .option('--alias <alias>', 'points to this version from now on; repeatable', collected)
      .option('--python <path>', 'interpreter that has sluice')
      .option(...json)
      .addHelpText(
        'after',
        '\nTYPE is float64, int64, utf8, bool or another of docs/API.md ("Types"), "list<float32>", or a type in JSON.',
      ),
  ).action(async (project: string, name: string, source: string, options: ImportOptions) => {
    const { importModel } = await import('../models/import-model.ts');
    await importModel(project, name, source, options);
  });
};

type AddOptions = JsonOption & {
  readonly gpu?: boolean;
  readonly group?: string;
  readonly python?: string;
  readonly wait: boolean;
};

const registerCurated = (models: Command): void => {
  models
    .command('catalog')
    .description('Curated models, which `sluice models add` registers and deploys.')
    .option(...json)
    .action(async (options: JsonOption) => {
      const { printCatalog } = await import('../models/add-model.ts');
      printCatalog(options.json === true);
    });
  withConnection(
    models
      .command('add <name>')
      .description('Register a curated model and deploy it to a scaling group.')
      .option('--gpu', 'the variant for a GPU')
      .option('--group <group>', 'scaling group (default: the name, with -gpu for that variant)')
      .option('--python <path>', 'interpreter whose pip gets the package')
      .option('--no-wait', 'do not wait until it is ready')
      .option(...json),
  ).action(async (name: string, options: AddOptions) => {
    const { addModel } = await import('../models/add-model.ts');
    await addModel(() => connect(options), name, {
      variant: options.gpu === true ? 'gpu' : 'cpu',
      group: options.group ?? null,
      python: options.python ?? null,
      isWaiting: options.wait,
      isJson: options.json === true,
    });
  });
};

export const registerModels = (program: Command): void => {
  const models = program
    .command('models')
    .summary('list, show, compare, alias, register, import and add models')
    .description('Registered models and their versions. Without a subcommand: list.');
  registerReading(models);
  registerChanging(models);
  registerImporting(models);
  registerCurated(models);
};
