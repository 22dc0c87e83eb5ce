/** The member `inference_store` of a deployment and of a group's function (docs/decisions/0018), and back. */
import { INFERENCE_FLUSH_MS_MAX, type InferenceStoreSpec } from '../domain/inference.ts';
import { type Bag, bagOf, refuse } from './option-bag.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** Somewhat above a year, so that a season can be compared with the one before. */
const RETENTION_DAYS_MAX = 400;
/** Files of less than a tenth of a second would cost more than their rows. */
const FLUSH_MS_MIN = 100;

export type InferenceStoreJson = {
  readonly sample_rate: number;
  readonly retention_ms: number;
  readonly flush_ms: number;
};

const MEMBERS = ['sample_rate', 'retention_ms', 'flush_ms'] as const;

/** null, or left out: nothing is sampled. @throws SluiceError `invalid_function` naming the member */
export const inferenceStoreOf = (value: unknown): InferenceStoreSpec | null => {
  if ((value ?? null) === null) return null;
  const bag = bagOf(value, 'inference_store', MEMBERS);
  return {
    sampleRate: sampleRateOf(bag),
    retentionMs: bag.optionalInteger('retention_ms', MINUTE_MS, RETENTION_DAYS_MAX * DAY_MS) ?? 7 * DAY_MS,
    flushMs: bag.optionalInteger('flush_ms', FLUSH_MS_MIN, INFERENCE_FLUSH_MS_MAX) ?? MINUTE_MS,
  };
};

const sampleRateOf = (bag: Bag): number => {
  const rate = bag.optionalNumber('sample_rate', 0, 1) ?? 1;
  if (rate > 0) return rate;
  return refuse('inference_store.sample_rate', rate, 'a share above 0, to 1, or null in place of the whole');
};

export const presentInferenceStore = ({
  sampleRate,
  retentionMs,
  flushMs,
}: InferenceStoreSpec): InferenceStoreJson => ({
  sample_rate: sampleRate,
  retention_ms: retentionMs,
  flush_ms: flushMs,
});
