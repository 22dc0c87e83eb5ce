/** Options of a deployment's inference store. */
import type { DeploymentJson, InferenceStoreJson } from '../../sdk/index.ts';
import { UsageError } from '../failure.ts';
import { spanMs } from './time-options.ts';

export type StoreOptions = {
  readonly inferenceStore?: boolean;
  readonly inferenceSampleRate?: number;
  readonly inferenceRetention?: string;
  readonly inferenceFlush?: string;
};

const membersOf = (options: StoreOptions): Partial<InferenceStoreJson> => {
  const { inferenceSampleRate: rate, inferenceRetention: retention, inferenceFlush: flush } = options;
  if (rate !== undefined && !(rate > 0 && rate <= 1))
    throw new UsageError(`--inference-sample-rate is ${rate}; give a share of rows above 0, to 1.`);
  return {
    ...(rate === undefined ? {} : { sample_rate: rate }),
    ...(retention === undefined ? {} : { retention_ms: spanMs('--inference-retention', retention) }),
    ...(flush === undefined ? {} : { flush_ms: spanMs('--inference-flush', flush) }),
  };
};

/** undefined: nothing was said of it; null: none is wanted. */
export const inferenceStoreOf = (options: StoreOptions): DeploymentJson['inference_store'] | undefined => {
  const members = membersOf(options);
  const isNamed = Object.keys(members).length > 0;
  if (options.inferenceStore === false) {
    if (isNamed) throw new UsageError('--no-inference-store goes without options of the inference store.');
    return null;
  }
  return isNamed || options.inferenceStore ? members : undefined;
};
