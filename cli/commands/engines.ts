/** `sluice engines …`: inference engines, which serve the models of scaling groups. */
import type { Command } from 'commander';
import type { EngineJson, EngineVersionJson } from '../../sdk/index.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { ago, printJson, printTable, span } from '../print.ts';

type JsonOption = ConnectionOptions & { readonly json?: boolean };
const json = ['--json', 'print JSON'] as const;

const printEngines = (engines: readonly EngineJson[]): void =>
  printTable(
    ['PROJECT', 'ENGINE', 'DEFAULT', 'VERSIONS', 'UPDATED'],
    engines.map((engine) => [
      engine.project,
      engine.name,
      engine.default_version ?? '-',
      String(engine.versions.length),
      ago(engine.updated_at),
    ]),
  );

const list = async (options: JsonOption & { project?: string }): Promise<void> => {
  const engines = await (await connect(options)).engines.list({ project: options.project });
  if (options.json) return printJson({ engines });
  if (engines.length === 0)
    process.stdout.write('No engines yet; register one with `sluice engines create -f engine.yaml`.\n');
  else printEngines(engines);
};

const line = (label: string, text: string): void => {
  process.stdout.write(`${`${label}:`.padEnd(12)}${text}\n`);
};

const printVersion = (engine: EngineVersionJson): void => {
  const { readiness_probe: probe } = engine;
  line(
    'engine',
    `${engine.project}/${engine.name} ${engine.version}${engine.is_default ? ' (default)' : ''}`,
  );
  line('protocol', engine.inference_protocol ?? 'plain JSON');
  if (engine.container_image_cpu !== null) line('image CPU', engine.container_image_cpu);
  if (engine.container_image_gpu !== null)
    line('image GPU', `${engine.container_image_gpu}${engine.supports_multi_gpu ? ', several GPUs' : ''}`);
  const command = [...(engine.entrypoint ?? []), ...(engine.command ?? [])];
  if (command.length > 0) line('command', command.map((word) => JSON.stringify(word)).join(' '));
  const base = engine.container_root_relative_base_url;
  const isProcess = engine.container_image_cpu === null && engine.container_image_gpu === null;
  const port = isProcess ? 'a free port for each replica ({port}, $PORT)' : `port ${engine.port}`;
  line('listens', `${port}, ${base}/infer`);
  line(
    'ready',
    `${probe.path ?? `${base}/ready`} every ${span(1000 * probe.period_seconds)}, ${probe.failure_threshold} failures`,
  );
  line('used by', engine.used_by.join(', ') || '-');
  for (const [name, value] of Object.entries(engine.env)) process.stdout.write(`${name}=${value}\n`);
  if (engine.predictor_env_schema.length === 0) return;
  process.stdout.write('\n');
  printTable(
    ['VARIABLE', 'TYPE', 'DEFAULT', 'WHAT'],
    engine.predictor_env_schema.map((one) => [
      one.name,
      one.type,
      one.default_value === null ? '-' : String(one.default_value),
      one.display_text ?? '',
    ]),
  );
};

const show = async (
  project: string,
  name: string,
  version: string | undefined,
  options: JsonOption,
): Promise<void> => {
  const { engines } = await connect(options);
  const engine = await engines.get(project, name);
  if (version === undefined && engine.default_version === null) {
    if (options.json) return printJson(engine);
    line('engine', `${project}/${name} has no default version`);
    return line('versions', engine.versions.join(', '));
  }
  const shown = await engines.version(project, name, version);
  if (options.json) return printJson(shown);
  printVersion(shown);
  line('versions', engine.versions.join(', '));
};

type CreateOptions = JsonOption & {
  readonly file: string;
  readonly project?: string;
  readonly name?: string;
  readonly engineVersion?: string;
  readonly default?: boolean;
};

const create = async (options: CreateOptions): Promise<void> => {
  const { readEngineFile } = await import('../engines/engine-file.ts');
  const engine = await readEngineFile(options.file, {
    project: options.project,
    name: options.name,
    version: options.engineVersion,
    is_default: options.default,
  });
  const made = await (await connect(options)).engines.create(engine);
  if (options.json) return printJson(made);
  process.stdout.write(
    `Version ${made.version} of ${made.project}/${made.name} is registered${made.is_default ? ', and the default' : ''}.\n`,
  );
};

const remove = async (
  project: string,
  name: string,
  version: string | undefined,
  options: ConnectionOptions,
): Promise<void> => {
  await (await connect(options)).engines.remove(project, name, version);
  const what = version === undefined ? `${project}/${name}` : `Version ${version} of ${project}/${name}`;
  process.stdout.write(`${what} is deleted.\n`);
};

const registerReading = (engines: Command): void => {
  withConnection(
    engines
      .command('list', { isDefault: true })
      .description('Engines, by project and name.')
      .option('--project <project>', 'of this project only')
      .option(...json),
  ).action(list);
  withConnection(
    engines
      .command('show <project> <name> [version]')
      .description('A version (default: the default one), with its probe and variables.')
      .option(...json),
  ).action(show);
};

export const registerEngines = (program: Command): void => {
  const engines = program
    .command('engines')
    .summary('register, list, show and delete inference engines')
    .description('Inference engines: HTTP servers that serve models. Without a subcommand: list.');
  registerReading(engines);
  withConnection(
    engines
      .command('create')
      .description('Register a version from a file of YAML or JSON, as POST /v1/engines takes it.')
      .requiredOption('-f, --file <file>', 'project, name, version, images or command, …')
      .option('--project <project>', "in place of the file's")
      .option('--name <name>', "in place of the file's")
      .option('--engine-version <version>', "in place of the file's")
      .option('--default', 'make it the default version')
      .option(...json),
  ).action(create);
  withConnection(
    engines
      .command('default <project> <name> <version>')
      .description('Make a version the default; groups go on with what they run.'),
  ).action(async (project: string, name: string, version: string, options: ConnectionOptions) => {
    await (await connect(options)).engines.setDefault(project, name, version);
    process.stdout.write(`Version ${version} of ${project}/${name} is the default.\n`);
  });
  withConnection(
    engines
      .command('delete <project> <name> [version]')
      .description('Delete a version, or the engine with all of them. Refused while a group runs it.'),
  ).action(remove);
};
