/** The words of scaling: how many replicas a function may have, and what they are counted by. */

/**
 * Of a function, whatever its version; a live update changes it and starts no replica again. It counts the replicas of all
 * worker processes together. A function without one has its spec's minimum in each worker process.
 */
export type Scaling = {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Rows, waiting and running, that one replica is worth. null: twice the largest batch. */
  readonly targetRows: number | null;
  /** How old the oldest waiting row may become before one replica more is wanted, in milliseconds. null: does not count. */
  readonly targetWaitMs: number | null;
  /** Mean CPU of the replicas, in percent of what each asked for. null: does not count. */
  readonly targetCpuPercent: number | null;
  /** The largest number wanted within this time holds: the stabilisation window of scaling down. */
  readonly scaleDownMs: number;
  /** Nothing to do for this long lets the last replica go, where minReplicas is 0. */
  readonly idleMs: number;
};

export const REPLICAS_MAX = 1000;
