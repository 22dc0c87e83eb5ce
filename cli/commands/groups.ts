/** `sluice groups …`: scaling groups, which run model versions as functions. */
import type { Command } from 'commander';
import type { ScalingGroupJson } from '../../sdk/index.ts';
import { functionNameOf } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { collected, wholeNumber } from '../arguments.ts';
import { type ConnectionOptions, connect, withConnection } from '../connection.ts';
import { ignoredLine, ignoredOf } from '../deploy/ignored-options.ts';
import { CommandError } from '../failure.ts';
import type { DeployOptions, ScalingOptions } from '../models/deployment-options.ts';
import { printGroup, printGroups } from '../models/group-views.ts';
import { printJson } from '../print.ts';
import { registerInferences } from './group-inferences.ts';
import { registerLogs } from './logs.ts';

type JsonOption = ConnectionOptions & { readonly json?: boolean };

const list = async (options: JsonOption): Promise<void> => {
  const groups = await (await connect(options)).scalingGroups.list();
  if (options.json) return printJson({ scaling_groups: groups });
  if (groups.length === 0) {
    process.stdout.write(
      'No scaling groups yet; deploy a model with `sluice groups deploy NAME --model MODEL`.\n',
    );
    return;
  }
  printGroups(groups);
};

const show = async (name: string, options: JsonOption): Promise<void> => {
  const client = await connect(options);
  const group = await client.scalingGroups.get(name);
  if (options.json) printJson(group);
  else printGroup(group, await ignoredOf(client, group.function));
};

const scale = async (name: string, options: ConnectionOptions & ScalingOptions): Promise<void> => {
  const { patchOf } = await import('../models/deployment-options.ts');
  const { scaling } = await (await connect(options)).scalingGroups.update(name, patchOf(options));
  process.stdout.write(`${name} has ${scaling.min_replicas} to ${scaling.max_replicas} replicas.\n`);
};

type WaitOption = { readonly wait: boolean; readonly json?: boolean };

/** Waits unless told not to, and says what is there. */
const served = async (
  options: ConnectionOptions & WaitOption,
  begin: () => Promise<ScalingGroupJson>,
): Promise<void> => {
  const { waitForGroup } = await import('../models/group-wait.ts');
  const client = await connect(options);
  const begun = await begin();
  const group = options.wait ? await waitForGroup(client, begun) : begun;
  if (options.json) return printJson(group);
  if (options.wait)
    for (const option of await ignoredOf(client, group.function))
      process.stderr.write(ignoredLine(group.name, option));
  process.stdout.write(
    `${group.name} ${options.wait ? 'serves' : 'is to serve'} version ${group.update?.version ?? group.version} of ${group.model} as ${group.function}.\n`,
  );
};

const withScaling = (command: Command): Command =>
  command
    .option('--min-replicas <n>', 'at least this many', wholeNumber(0, 1000))
    .option('--max-replicas <n>', 'at most this many', wholeNumber(1, 1000))
    .option('--target-rows <n>', 'rows, waiting and running, that one replica is worth', wholeNumber(1))
    .option(
      '--target-wait <ms>',
      'age of the oldest row above which one replica more is wanted',
      wholeNumber(1),
    )
    .option('--target-cpu <percent>', 'mean CPU of the replicas', wholeNumber(1))
    .option('--scale-down <ms>', 'the largest number wanted within this time holds', wholeNumber(0))
    .option('--idle <ms>', 'idle this long lets the last replica go, where the minimum is 0', wholeNumber(0))
    .option('--max-batching-size <rows>', 'rows of a batch at most', wholeNumber(1))
    .option('--max-buffer-duration <ms>', 'longest wait of the oldest row', wholeNumber(0))
    .option('--max-batch-bytes <bytes>', 'bytes of a batch at most', wholeNumber(1));

const withDeployment = (command: Command, usualVersion: string): Command =>
  withScaling(command)
    .option('--model-version <version>', `number, alias or latest (default: ${usualVersion})`)
    .option('--backend <backend>', "process, container or kubernetes (default: the server's choice)")
    .option('--cpu <cores>', 'of a replica', Number)
    .option('--memory <bytes>', 'of a replica; 512Mi, 2Gi')
    .option('--gpu <type:count>', 'of a replica, such as nvidia-l4:1')
    .option('--env <NAME=value>', 'variable of the replicas; repeatable', collected)
    .option('--engine <project/name[@version]>', 'inference engine that serves it')
    .option('--predictor <NAME=value>', "variable of the engine's predictor; repeatable", collected)
    .option('--image <name:tag>', "image in place of the version's")
    .option('--handler <module.attribute>', 'handler in the image, served by our entrypoint')
    .option('--on-startup <module.attribute>', 'what runs once a replica before the first batch')
    .option('--port <port>', 'where the image listens', wholeNumber(1, 65_535))
    .option('--skip-artifacts', "leave the version's files out of the container")
    .option('--no-skip-artifacts', 'put them in again')
    .option(
      '--inference-store',
      'keep a sample of rows and answers: all rows for a week, if nothing else is said',
    )
    .option('--no-inference-store', 'keep none')
    .option('--inference-sample-rate <share>', 'of the rows, above 0 to 1', Number)
    .option('--inference-retention <span>', 'how long they are kept, such as 12h or 30d')
    .option('--inference-flush <span>', 'how long they wait for their file at most, such as 10s')
    .option(
      '--ready-timeout <ms>',
      'an update that is not ready by then is dropped; a first version goes on starting',
      wholeNumber(1),
    )
    .option('--no-wait', 'do not wait until it is ready')
    .option('--json', 'print JSON');

type Deploy = ConnectionOptions & DeployOptions & WaitOption;

const registerRunning = (groups: Command): void => {
  withConnection(
    withDeployment(
      groups
        .command('deploy <name>')
        .description('Run a model version as the function model.NAME, or update to it.')
        .requiredOption('--model <model>', 'model'),
      'latest',
    ),
  ).action(async (name: string, options: Deploy & { model: string }) => {
    const { deploymentOf } = await import('../models/deployment-options.ts');
    const deployment = deploymentOf(options.model, options);
    const client = await connect(options);
    await served(options, () => client.scalingGroups.deploy(name, deployment));
  });
  withConnection(
    withDeployment(
      groups
        .command('update <name>')
        .description(
          'Run another version of the same model, or the same with other settings; what is not given stays as it is.',
        ),
      'the one that it runs',
    ),
  ).action(async (name: string, options: Deploy) => {
    const { updateOf } = await import('../models/deployment-options.ts');
    const client = await connect(options);
    const deployment = updateOf(await client.scalingGroups.get(name), options);
    await served(options, () => client.scalingGroups.deploy(name, deployment));
  });
  withConnection(
    groups
      .command('rollback <name>')
      .description('Go back to the version before.')
      .option('--no-wait', 'do not wait until it is ready')
      .option('--json', 'print JSON'),
  ).action(async (name: string, options: ConnectionOptions & WaitOption) => {
    const client = await connect(options);
    await served(options, () => client.scalingGroups.rollback(name));
  });
};

const remove = async (name: string, options: ConnectionOptions & { force?: boolean }): Promise<void> => {
  try {
    await (await connect(options)).scalingGroups.remove(name, { isForced: options.force });
  } catch (error) {
    const isBusy = error instanceof SluiceError && error.code === 'function_busy';
    if (!isBusy) throw error;
    throw new CommandError(
      `${error.message} \`sluice functions purge ${functionNameOf(name)}\` cancels them; \`sluice groups delete ${name} --force\` cancels them and deletes the group.`,
    );
  }
  process.stdout.write(`${name} is deleted.\n`);
};

export const registerGroups = (program: Command): void => {
  const groups = program
    .command('groups')
    .summary('deploy, scale, inspect and delete scaling groups')
    .description(
      'Scaling groups: each runs a model version as the function model.GROUP. Without a subcommand: list.',
    );
  withConnection(
    groups
      .command('list', { isDefault: true })
      .description('Groups, by name.')
      .option('--json', 'print JSON'),
  ).action(list);
  withConnection(
    groups
      .command('show <name>')
      .description('One group: state, replicas, events.')
      .option('--json', 'print JSON'),
  ).action(show);
  registerRunning(groups);
  withConnection(
    withScaling(
      groups
        .command('scale <name>')
        .description('Change replicas or batching limits; no replica starts again.'),
    ),
  ).action(scale);
  registerLogs(groups, 'The last lines that its replicas printed.', functionNameOf);
  registerInferences(groups);
  withConnection(
    groups
      .command('delete <name>')
      .description('Delete a group that has no unfinished calls.')
      .option('--force', 'cancel its unfinished calls'),
  ).action(remove);
};
