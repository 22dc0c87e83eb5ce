/** Functions whose replicas are engines of the test: real servers as child processes. */
import path from 'node:path';
import type { EngineSpec } from '../../../../shared/domain/engine.ts';
import type { FunctionSpec } from '../../../../shared/domain/function.ts';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';

const ENGINES = path.resolve('test/fixtures/engines');

const PROBE: EngineSpec['probe'] = {
  path: '/ready',
  port: null,
  initialDelayMs: 0,
  timeoutMs: 5000,
  periodMs: 10,
  successThreshold: 1,
  failureThreshold: 2,
};

export const ENGINE: EngineSpec = {
  project: 'p',
  name: 'wayward',
  version: '1',
  protocol: 'json',
  command: null,
  image: null,
  port: 8080,
  basePath: '',
  probe: PROBE,
  modelId: 'house',
  taskType: 'Tabular',
  env: {},
};

export type EngineChanges = Omit<Partial<EngineSpec>, 'probe'> & {
  readonly probe?: Partial<EngineSpec['probe']>;
};
export type SpecChanges = Partial<Omit<FunctionSpec, 'engine' | 'runtime'>>;

export const engineSpec = (engine: EngineChanges, changes: SpecChanges = {}): FunctionSpec => ({
  ...PLAIN_SPEC,
  inputMode: 'table',
  inputs: [{ name: 'text', type: 'utf8', nullable: true }],
  output: { type: 'utf8', nullable: true },
  batching: { sizeRows: 8, durationMs: 5, bytesMax: 2 ** 26 },
  ...changes,
  runtime: 'http',
  handler: { file: '', attribute: '' },
  engine: { ...ENGINE, ...engine, probe: { ...PROBE, ...engine.probe } },
});

/** An engine that does what its rows say (test/fixtures/engines/wayward.mjs); how ready it is stands in the file `state`. */
export const wayward = (state: string, changes: EngineChanges = {}): EngineChanges => ({
  command: [process.execPath, path.join(ENGINES, 'wayward.mjs'), '{port}', state],
  ...changes,
});
