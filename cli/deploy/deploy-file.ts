/** What `sluice deploy FILE` does: specs out of the file, one registration each. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { FunctionJson, SpecJson } from '../../sdk/index.ts';
import { type ConnectionOptions, connect } from '../connection.ts';
import { CommandError, UsageError } from '../failure.ts';
import { printJson } from '../print.ts';
import { deployedLine, functionBefore } from './deployed-line.ts';
import { ignoredBy, ignoredLine } from './ignored-options.ts';

export type DeployOptions = ConnectionOptions & {
  readonly isolated?: boolean;
  readonly python?: string;
  readonly json?: boolean;
};

const specsOf = async (file: string, options: DeployOptions): Promise<readonly SpecJson[]> => {
  if (!existsSync(file))
    throw new UsageError(`${file} does not exist; give a Python, TypeScript or JavaScript file.`);
  const extension = path.extname(file);
  if (extension === '.py') {
    const { pythonSpecs } = await import('./python-manifest.ts');
    return pythonSpecs(path.resolve(file), options.python ?? null);
  }
  if (/^\.[cm]?[jt]s$/.test(extension)) {
    const { moduleSpecs } = await import('./node-manifest.ts');
    return moduleSpecs(path.resolve(file));
  }
  throw new UsageError(
    `${file} is neither Python (.py) nor TypeScript or JavaScript (.ts, .mts, .js, .mjs).`,
  );
};

const isolated = (spec: SpecJson): SpecJson => ({
  ...spec,
  environment: { ...spec.environment, isolated: true },
});

/** The first function as it is called, with a place for each input. */
const example = ({ name, spec }: FunctionJson): string =>
  `try: sluice call ${name} ${spec.inputs?.map((field) => `${field.name}=…`).join(' ') ?? 'column=…'}`;

export const deployFile = async (file: string, options: DeployOptions): Promise<void> => {
  const specs = await specsOf(file, options);
  if (specs.length === 0)
    throw new CommandError(
      `${file} declares no function; use @sluice.function in Python, or export defineFunction(…) from @sluice/sdk.`,
    );
  const client = await connect(options);
  const deployed: FunctionJson[] = [];
  for (const spec of specs) {
    const before = options.json ? undefined : await functionBefore(client, spec.name);
    const { function: fn, isNew } = await client.deploy(options.isolated ? isolated(spec) : spec);
    deployed.push(fn);
    if (options.json) continue;
    process.stdout.write(`${deployedLine(fn, isNew, before)}\n`);
    for (const option of ignoredBy(fn)) process.stderr.write(ignoredLine(fn.name, option));
  }
  if (options.json) printJson({ functions: deployed });
  else process.stdout.write(`${example(deployed[0]!)}\n`);
};
