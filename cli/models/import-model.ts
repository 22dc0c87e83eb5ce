/** `sluice models import`: the Python package unpacks, uploads and registers. */
import path from 'node:path';
import type { ConnectionOptions } from '../connection.ts';
import { runPythonCommand } from '../deploy/python-command.ts';

export type ImportOptions = ConnectionOptions & {
  readonly summary?: string;
  readonly label?: string;
  readonly taskType?: string;
  readonly classLabels?: string;
  readonly input?: readonly string[];
  readonly output?: readonly string[];
  readonly alias?: readonly string[];
  readonly python?: string;
  readonly json?: boolean;
};

export const importModel = (
  project: string,
  name: string,
  source: string,
  options: ImportOptions,
): Promise<void> => {
  const named = {
    '--summary': options.summary,
    '--label': options.label,
    '--task-type': options.taskType,
    '--class-labels': options.classLabels,
  };
  const given = Object.entries(named).filter(([, value]) => value !== undefined) as [string, string][];
  const parameters = [
    ...given.map(([option, value]) => `${option}=${value}`),
    ...(options.input ?? []).map((column) => `--input=${column}`),
    ...(options.output ?? []).map((column) => `--output=${column}`),
    ...(options.alias ?? []).map((alias) => `--alias=${alias}`),
    ...(options.json === true ? ['--json'] : []),
    ...['--', project, name, source],
  ];
  const module = 'sluice.import_command';
  return runPythonCommand({ module, parameters, file: path.resolve(source) }, options);
};
