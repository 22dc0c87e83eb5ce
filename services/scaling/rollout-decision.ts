/** What becomes of a staged version: it waits, takes over, or is dropped. Pure: the same reports, the same decision. */
import type { ReplicaReport } from '../../shared/domain/function.ts';
import { STARTS_MAX } from '../../shared/domain/scaling.ts';

export type RolloutQuery = {
  /** Of the staged version. */
  readonly reports: readonly ReplicaReport[];
  /** Of the group. */
  readonly minReplicas: number;
  /** When the update began. */
  readonly since: number;
  readonly readyTimeoutMs: number;
  readonly now: number;
};

export type RolloutDecision = {
  readonly step: 'wait' | 'activate' | 'drop';
  /** What people are told: what is waited for, how many are ready, or why it was given up. */
  readonly text: string;
};

const sum = (reports: readonly ReplicaReport[], member: 'ready' | 'starting' | 'failed'): number =>
  reports.reduce((total, report) => total + report[member], 0);

/** The last words of what does not start. */
export const reasonOf = (reports: readonly ReplicaReport[]): string | null => {
  const told = reports.find(({ reason }) => reason !== null)?.reason;
  if (told !== undefined && told !== null) return told;
  const replicas = reports.flatMap((report) => report.replicas ?? []);
  return replicas.find(({ reason }) => reason !== null)?.reason ?? null;
};

/** Of the replica that has failed most: its restarts, and the last start where that failed as well. */
const failedStarts = (reports: readonly ReplicaReport[]): number =>
  Math.max(
    0,
    ...reports
      .flatMap((report) => report.replicas ?? [])
      .map(({ state, restarts }) => (state === 'ready' ? 0 : restarts + (state === 'failed' ? 1 : 0))),
  );

const seconds = (ms: number): string => `${Number((ms / 1000).toFixed(1))} s`;

export const rolloutDecision = (query: RolloutQuery): RolloutDecision => {
  const { reports, minReplicas, since, readyTimeoutMs, now } = query;
  const wanted = Math.max(1, minReplicas);
  const ready = sum(reports, 'ready');
  const reason = reasonOf(reports);
  const because = reason === null ? '' : `: ${reason}`;
  const have = `${ready} of ${wanted} replica${wanted === 1 ? '' : 's'} ready`;
  if (ready >= wanted) return { step: 'activate', text: have };
  const isOver = now - since >= readyTimeoutMs;
  // Some serve, and the rest has had its time: a group that is short of replicas is better than one that is stuck.
  if (ready > 0)
    return isOver
      ? { step: 'activate', text: `${have} after ${seconds(readyTimeoutMs)}${because}` }
      : { step: 'wait', text: `${have}${because}` };
  if (failedStarts(reports) >= STARTS_MAX)
    return { step: 'drop', text: `its replicas failed to start ${STARTS_MAX} times${because}` };
  if (isOver)
    return { step: 'drop', text: `no replica was ready after ${seconds(readyTimeoutMs)}${because}` };
  if (reports.length === 0) return { step: 'wait', text: 'no worker has begun to start it' };
  return { step: 'wait', text: `${have}${because}` };
};
