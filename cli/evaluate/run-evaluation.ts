/** What `sluice evaluate` does: rows and figures are Python's, in a process of its own which shares this one's output. */
import path from 'node:path';
import type { ConnectionOptions } from '../connection.ts';
import { runPythonCommand } from '../deploy/python-command.ts';

export type EvaluationOptions = ConnectionOptions & {
  readonly labels: string;
  readonly task: string;
  readonly inputs?: string;
  readonly answer?: string;
  readonly classes?: string;
  readonly documents?: string;
  readonly id: string;
  readonly documentInputs?: string;
  readonly k: string;
  readonly concurrentChunks: number;
  readonly json?: boolean;
  readonly output?: string;
  readonly python?: string;
};

/** One word each, since a value may begin with a dash. */
const parametersOf = (target: string, file: string, options: EvaluationOptions): string[] => {
  const named = {
    labels: options.labels,
    task: options.task,
    inputs: options.inputs,
    answer: options.answer,
    classes: options.classes,
    documents: options.documents,
    id: options.id,
    'document-inputs': options.documentInputs,
    k: options.k,
    'concurrent-chunks': String(options.concurrentChunks),
    output: options.output,
  };
  const given = Object.entries(named).filter(([, value]) => value !== undefined);
  return [
    ...given.map(([name, value]) => `--${name}=${value}`),
    ...(options.json === true ? ['--json'] : []),
    ...['--', target, file],
  ];
};

export const runEvaluation = (target: string, file: string, options: EvaluationOptions): Promise<void> =>
  runPythonCommand(
    {
      module: 'sluice.evaluation.command',
      parameters: parametersOf(target, file, options),
      file: path.resolve(file),
      extra: { name: '[evaluate]', purpose: 'evaluation' },
    },
    options,
  );
