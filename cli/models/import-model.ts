/** `sluice models import`: the Python package unpacks, uploads and registers. */
import path from 'node:path';
import type { ConnectionOptions } from '../connection.ts';
import { interpreterFor } from '../deploy/python-manifest.ts';
import { runPythonModule } from '../deploy/python-module.ts';
import { packageRequirement } from '../deploy/python-package.ts';

export type ImportOptions = ConnectionOptions & {
  readonly summary?: string;
  readonly label?: string;
  readonly taskType?: string;
  readonly classLabels?: string;
  readonly alias?: readonly string[];
  readonly python?: string;
  readonly json?: boolean;
};

const INSTALL = {
  pattern: /No module named '?sluice|No module named .?sluice\.import_command/,
  what: '',
  requirement: packageRequirement(),
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
    ...['-m', 'sluice.import_command', ...given.flatMap(([option, value]) => [`${option}=${value}`])],
    ...(options.alias ?? []).map((alias) => `--alias=${alias}`),
    ...(options.json === true ? ['--json'] : []),
    ...['--', project, name, source],
  ];
  const python = interpreterFor(path.resolve(source), options.python ?? null);
  return runPythonModule({ python, parameters, connection: options }, INSTALL);
};
