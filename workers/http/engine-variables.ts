/** What an engine is told of itself: the engine's and the predictor's variables, and ours, which win. */
import type { EngineSpec } from '../../shared/domain/engine.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';

/** Where model files can be mounted, as engines of the KServe kind look for them. */
export const MODEL_MOUNT = '/mnt/models';

export type EngineSurroundings = {
  /** Where it is to listen. */
  readonly port: number;
  /** Absolute path of the model's files, as the engine sees it. */
  readonly modelPath: string;
};

/** Each under our name and under the one that engines written for Chariot read. */
const twins = (name: string, value: string): Readonly<Record<string, string>> => ({
  [`SLUICE_${name}`]: value,
  [`CHARIOT_${name}`]: value,
});

export const engineVariables = (
  { environment }: FunctionSpec,
  engine: EngineSpec,
  { port, modelPath }: EngineSurroundings,
): Record<string, string> => ({
  // A log that waits in a buffer helps nobody who wonders why it does not start.
  PYTHONUNBUFFERED: '1',
  ...environment.env,
  ...engine.env,
  PORT: String(port),
  SLUICE_PORT: String(port),
  ...twins('MODEL_PATH', modelPath),
  ...twins('MODEL_ID', engine.modelId),
  ...(engine.taskType === null ? {} : twins('TASK_TYPE', engine.taskType)),
});

const withPort = (words: readonly string[], port: number): readonly string[] =>
  words.map((word) => word.replaceAll('{port}', String(port)));

/** The engine's command with the port in its place; null: the image's own. */
export const engineCommand = ({ command }: EngineSpec, port: number): readonly string[] | null =>
  command === null ? null : withPort(command, port);

/** What the image's own entrypoint is given; null: the image's own. */
export const engineArgs = ({ args }: EngineSpec, port: number): readonly string[] | null =>
  args === undefined ? null : withPort(args, port);
