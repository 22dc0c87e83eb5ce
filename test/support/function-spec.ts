/** A function as plain as it can be, for tests to change. */
import type { FunctionSpec } from '../../shared/domain/function.ts';

export const PLAIN_SPEC: FunctionSpec = {
  name: 'f',
  runtime: 'python',
  handler: { file: 'f.py', attribute: 'f' },
  inputMode: 'columns',
  inputs: [{ name: 'x', type: 'int64', nullable: false }],
  output: { type: 'int64', nullable: false },
  batching: { sizeRows: 10, durationMs: 5, bytesMax: 2 ** 20 },
  retry: { retries: 0, initialMs: 1, multiplier: 1, maxMs: 1, jitter: 0, retryOn: [], terminalOn: [] },
  isolation: 'bisect',
  callTimeoutMs: 60_000,
  replicas: { min: 1, max: 1 },
  resources: { cpu: null, memoryBytes: null, gpu: null },
  environment: { base: null, steps: [], env: {}, isolated: false, interpreter: null },
  source: [],
};
