/**
 * Which worker tries which batch next. What a batch is and who may settle it is in the store's own scripts; a dispatcher
 * only names batches that are ready. One that names a batch twice, late or never does no harm but waiting.
 */
export type Job = unknown;

export type DispatchedBatch = {
  readonly batchId: number;
  /** As it was added: a number for each time that the batch became ready. */
  readonly attempt: number;
  readonly job: Job;
};

export interface Dispatch {
  /** The same batch and attempt again makes no second job. */
  add(versionId: number, batchId: number, attempt: number, delayUntil: number | null): Promise<void>;
  /** Fewer than `max` only where no more are there: nobody is told again of what is left. */
  take(
    versionId: number,
    workerId: string,
    max: number,
    leaseMs: number,
  ): Promise<readonly DispatchedBatch[]>;
  /** Publishes behind what was asked to be added before, without waiting for it; absent where nothing keeps that order. */
  tell?: ((channel: string, text: string) => Promise<void>) | undefined;
  extend(jobs: readonly Job[], leaseMs: number): Promise<void>;
  done(job: Job): Promise<void>;
  handBack(job: Job): Promise<void>;
}
