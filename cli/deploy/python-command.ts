/** A command that the Python package carries out: with the interpreter that `sluice deploy` would take. */
import type { ConnectionOptions } from '../connection.ts';
import { interpreterFor } from './python-manifest.ts';
import { runPythonModule } from './python-module.ts';
import { packageRequirement } from './python-package.ts';

export type PythonCommand = {
  /** Of the package, such as `sluice.query_command`. */
  readonly module: string;
  readonly parameters: readonly string[];
  /** A file beside which, or above, the virtual environment is looked for. */
  readonly file: string;
  /** Extra of the package that the command needs, as `[sql]`, and what it is for. */
  readonly extra?: { readonly name: string; readonly purpose: string };
};

const escaped = (text: string): string => text.replaceAll('.', '\\.');

/** Ends this command as the Python command ends. */
export const runPythonCommand = (
  { module, parameters, file, extra }: PythonCommand,
  options: ConnectionOptions & { readonly python?: string },
): Promise<void> =>
  runPythonModule(
    {
      python: interpreterFor(file, options.python ?? null),
      parameters: ['-m', module, ...parameters],
      connection: options,
    },
    {
      pattern: new RegExp(`No module named '?sluice|No module named .?${escaped(module)}`),
      what: extra === undefined ? '' : ` with ${extra.purpose}`,
      requirement: packageRequirement(extra?.name),
    },
  );
