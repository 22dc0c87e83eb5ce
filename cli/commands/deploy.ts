/** `sluice deploy`: registers every function of a Python, TypeScript or JavaScript file. */
import type { Command } from 'commander';
import { type ConnectionOptions, withConnection } from '../connection.ts';

type DeployOptions = ConnectionOptions & {
  readonly isolated?: boolean;
  readonly python?: string;
  readonly json?: boolean;
};

const ABOUT = `
Python files run once in the interpreter of --python, else $SLUICE_PYTHON, else .venv/bin/python beside or above the file,
else python3; the same interpreter runs the handlers (with --isolated: a virtual environment of their own, made from the
image's pip steps). TypeScript and JavaScript files are imported once; what they import by a relative path goes along.`;

export const registerDeploy = (program: Command): void => {
  withConnection(
    program
      .command('deploy')
      .summary('register the functions of a file')
      .description('Register every function that a Python, TypeScript or JavaScript file declares.')
      .argument('<file>', '.py, .ts, .mts, .js or .mjs')
      .option('--isolated', "make the handlers a virtual environment from the image's pip steps")
      .option('--python <interpreter>', 'Python interpreter')
      .option('--json', 'print the functions as JSON'),
  )
    .addHelpText('after', ABOUT)
    .action(async (file: string, options: DeployOptions) => {
      const { deployFile } = await import('../deploy/deploy-file.ts');
      await deployFile(file, options);
    });
};
