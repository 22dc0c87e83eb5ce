#!/usr/bin/env node
/**
 * The `sluice` command. Each file of commands/ registers what it has; what a command needs to run is imported when it
 * runs, so that `sluice --help` and `sluice call` start fast.
 */
import { Command, CommanderError } from 'commander';
import { registerCall } from './commands/call.ts';
import { registerCalls } from './commands/calls.ts';
import { registerConfig } from './commands/config.ts';
import { registerDeploy } from './commands/deploy.ts';
import { registerEngines } from './commands/engines.ts';
import { registerEvaluate } from './commands/evaluate.ts';
import { registerFunctions } from './commands/functions.ts';
import { registerGroups } from './commands/groups.ts';
import { registerKeys } from './commands/keys.ts';
import { registerMigrate } from './commands/migrate.ts';
import { registerModels } from './commands/models.ts';
import { registerRun } from './commands/run.ts';
import { registerServe } from './commands/serve.ts';
import { registerSql } from './commands/sql.ts';
import { EXIT_INTERRUPTED, EXIT_USAGE, exitCodeOf, explain } from './failure.ts';

const EXAMPLES = `
Examples:
  sluice dev                                     start a server on this machine
  sluice deploy embed.py                         register the functions of a file
  sluice call embed text="A man is eating."      one row, answered here
  sluice run --function embed --input docs.parquet --column text --output embeddings.parquet
  sluice functions                               what is deployed, and how it is doing
  sluice calls list --function embed             what was submitted, newest first

SLUICE_URL and SLUICE_API_KEY say which server; \`sluice COMMAND --help\` says more.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`;

const makeProgram = (): Command => {
  const program = new Command('sluice')
    .description('An async batching function queue: rows in, full batches to workers, answers back in order.')
    .version('0.1.0')
    .addHelpText('after', EXAMPLES)
    .showHelpAfterError('Run with --help to see what it takes.')
    .helpCommand(false)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'sluice: ')) });
  program.commandsGroup('Server:');
  registerServe(program);
  program.commandsGroup('Functions:');
  registerDeploy(program);
  registerFunctions(program);
  program.commandsGroup('Models:');
  registerModels(program);
  registerGroups(program);
  registerEngines(program);
  program.commandsGroup('Calls:');
  registerCall(program);
  registerRun(program);
  registerSql(program);
  registerEvaluate(program);
  registerCalls(program);
  program.commandsGroup('Administration:');
  registerKeys(program);
  registerMigrate(program);
  registerConfig(program);
  return program;
};

/** Errors of commander are printed by it already; --help and --version end with 0. */
const failed = (error: unknown): number => {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  process.stderr.write(`sluice: ${explain(error)}\n`);
  return exitCodeOf(error);
};

/** Subcommands inherit the override only when they are made after it, so it is set on each. */
const overrideExit = (command: Command): void => {
  command.exitOverride();
  command.commands.forEach(overrideExit);
};

// A reader that closes early, such as `head`, ends the command quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

// What would be said is lost then, and the command goes on.
process.stderr.on('error', () => undefined);

// Under the launcher on an older Node: a SIGKILL of the launcher is one of this process, which would run on unseen otherwise.
if (process.channel) {
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  process.channel.unref();
}

const program = makeProgram();
overrideExit(program);
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = failed(error);
  // What is still asked of a server that does not answer keeps nobody waiting.
  if (process.exitCode === EXIT_INTERRUPTED) process.exit();
}
