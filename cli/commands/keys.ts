/** `sluice keys …`: API keys and their scopes. */
import type { Command } from 'commander';
import type { KeyScope } from '../../sdk/index.ts';
import { collected } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { UsageError } from '../failure.ts';
import { ago, printJson, printTable } from '../print.ts';

type JsonOption = ConnectionOptions & { readonly json?: boolean };
const SCOPES: readonly string[] = ['call', 'deploy', 'admin'];

const create = async (name: string, options: JsonOption & { scope?: string[] }): Promise<void> => {
  const scopes = options.scope ?? ['call'];
  const unknown = scopes.find((scope) => !SCOPES.includes(scope));
  if (unknown !== undefined) throw new UsageError(`--scope is "${unknown}"; give call, deploy or admin.`);
  const key = await (await connect(options)).createKey(name, scopes as KeyScope[]);
  if (options.json) return printJson(key);
  process.stderr.write(`The secret of key ${key.id} (${key.scopes.join(', ')}) is shown this once:\n`);
  process.stdout.write(`${key.secret}\n`);
  process.stderr.write('From now on: export SLUICE_API_KEY=…\n');
};

const list = async (options: JsonOption): Promise<void> => {
  const keys = await (await connect(options)).keys();
  if (options.json) return printJson({ keys });
  printTable(
    ['KEY', 'NAME', 'SCOPES', 'PREFIX', 'CREATED'],
    keys.map((key) => [key.id, key.name, key.scopes.join(','), key.prefix, ago(key.created_at)]),
  );
};

export const registerKeys = (program: Command): void => {
  const keys = program
    .command('keys')
    .summary('create, list and revoke API keys')
    .description('API keys. Without a subcommand: list.');
  withConnection(
    keys
      .command('create <name>')
      .description('Make a key; its secret is printed once.')
      .option('--scope <scope>', 'call (default), deploy or admin; repeatable', collected)
      .option('--json', 'print JSON'),
  ).action(create);
  withConnection(
    keys
      .command('list', { isDefault: true })
      .description('Keys, without secrets.')
      .option('--json', 'print JSON'),
  ).action(list);
  withConnection(keys.command('revoke <id>').description('Make a key invalid at once.')).action(
    async (id: string, options: ConnectionOptions) => {
      await (await connect(options)).revokeKey(id);
      process.stdout.write(`Key ${id} is revoked.\n`);
    },
  );
};
