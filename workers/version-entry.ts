/** What the host knows of one function version beside its runner. */
import type { FunctionRecord, FunctionVersion, ReplicaReport } from '../shared/domain/function.ts';
import type { Backend, Followed } from './backend.ts';
import type { FunctionScaling } from './function-scaling.ts';
import type { TurnTaker } from './version-turns.ts';

export type Entry = TurnTaker & {
  readonly backend: Backend;
  readonly refusal: string | null;
  readonly scaling: FunctionScaling;
  ignored: readonly string[];
  /** Since when nothing of an on-demand version was seen; null while it has work or rests. */
  idleSince: number | null;
  /** Where something else decides how many replicas there are. */
  followed: Followed | null;
  /** What that could not do. */
  followFailure: string | null;
};

export const roleIn = (record: FunctionRecord, { id }: FunctionVersion): Entry['role'] => {
  if (record.current.id === id) return 'current';
  return record.staged?.id === id ? 'staged' : 'old';
};

/** It has replicas here whether rows wait or not. */
export const isNeeded = ({ role, scaling, runner }: Entry): boolean =>
  role === 'staged' ||
  (role === 'current' && scaling.scaling.minReplicas > 0 && scaling.floor(runner.version.id) > 0);

/** Its replicas come with its rows and go without. */
export const isOnDemand = (entry: Entry): boolean =>
  entry.refusal === null &&
  entry.role !== 'staged' &&
  (entry.role === 'old' || entry.scaling.scaling.minReplicas === 0);

/** Replicas that it is to have here while it is up. */
export const goalOf = ({ role, scaling, runner }: Entry): number => {
  const { id } = runner.version;
  if (role === 'current') return scaling.goal(id);
  // One that was replaced under load keeps what it has until its rows are gone.
  return role === 'staged' ? scaling.goalBeside(id) : Math.max(runner.size, scaling.goalBeside(id));
};

export const reportOf = (entry: Entry): Omit<ReplicaReport, 'workerId' | 'until'> => {
  const { runner, refusal, ignored, blocked, followFailure } = entry;
  const count = (wanted: string): number => runner.replicas.filter(({ state }) => state === wanted).length;
  const failed = runner.replicas.find(({ reason }) => reason !== null);
  return {
    versionId: runner.version.id,
    ready: count('ready'),
    starting: blocked === null ? count('starting') : entry.goal,
    failed: count('failed'),
    reason: refusal ?? blocked ?? failed?.reason ?? followFailure,
    ignored,
    ...(refusal === null ? { replicas: runner.facts() } : {}),
  };
};

/** Lets something else decide how many replicas a version has, or tells it what the scaling is now. */
export const follow = (entry: Entry, onChange: () => void): void => {
  const { backend, scaling, runner } = entry;
  const wanted = entry.role === 'staged' ? scaling.stagedScaling : scaling.scaling;
  if (entry.followed) {
    entry.followed.rescale(wanted);
    return;
  }
  let isOver = false;
  const followed = backend.follow?.(
    runner.version,
    wanted,
    (replicas) => {
      if (isOver) return;
      entry.goal = replicas;
      entry.followFailure = null;
      runner.scaleTo(replicas);
    },
    (reason) => {
      entry.followFailure = reason;
      onChange();
    },
  );
  if (!followed) return;
  let told = JSON.stringify(wanted);
  entry.followed = {
    rescale: (to) => {
      if (JSON.stringify(to) === told) return;
      told = JSON.stringify(to);
      followed.rescale(to);
    },
    end: (how) => {
      isOver = true;
      return followed.end(how);
    },
  };
};
