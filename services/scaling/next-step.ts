/** What a group's function lacks of what the group's document says, one step at a time. Pure. */
import type { FunctionRecord } from '../../shared/domain/function.ts';
import type { Group, Release } from './group-records.ts';
import type { GroupSight } from './group-state.ts';
import { rolloutDecision } from './rollout-decision.ts';

/** A removal takes a moment; one that is older was cut off. */
const LEAVING_MS = 60_000;

export type Step =
  | { readonly do: 'nothing' }
  /** The function does not have it: a deployment was cut off after its document was written. */
  | { readonly do: 'deploy'; readonly release: Release; readonly isStaged: boolean }
  | { readonly do: 'scale' }
  | { readonly do: 'activate' | 'finish'; readonly release: Release }
  | { readonly do: 'drop'; readonly release: Release; readonly text: string }
  /** Staged, and nobody wants it any more. */
  | { readonly do: 'unstage'; readonly digest: string }
  | { readonly do: 'stay' | 'forget' };

const NOTHING: Step = { do: 'nothing' };

export const nextStep = (sight: GroupSight): Step => {
  const { group, record, now } = sight;
  if (group.leavingAt !== null) {
    if (now - group.leavingAt < LEAVING_MS) return NOTHING;
    return { do: record === undefined ? 'forget' : 'stay' };
  }
  if (record === undefined) return { do: 'deploy', release: group.current, isStaged: false };
  if (!isScaled(group, record)) return { do: 'scale' };
  return group.next === null ? settledStep(group, record) : updateStep(sight, record, group.next);
};

const settledStep = (group: Group, record: FunctionRecord): Step => {
  if (record.current.digest !== group.current.digest)
    return { do: 'deploy', release: group.current, isStaged: false };
  return record.staged === null ? NOTHING : { do: 'unstage', digest: record.staged.digest };
};

const updateStep = ({ group, reports, now }: GroupSight, record: FunctionRecord, next: Release): Step => {
  if (record.current.digest === next.digest) return { do: 'finish', release: next };
  if (record.staged?.digest !== next.digest) return { do: 'deploy', release: next, isStaged: true };
  if (next.isTaking === true) return { do: 'activate', release: next };
  const { step, text } = rolloutDecision({
    reports: reports.filter(({ versionId }) => versionId === record.staged?.id),
    minReplicas: group.scaling.minReplicas,
    since: next.since,
    readyTimeoutMs: next.deployment.readyTimeoutMs,
    now,
  });
  if (step === 'wait') return NOTHING;
  return step === 'activate' ? { do: 'activate', release: next } : { do: 'drop', release: next, text };
};

const isScaled = (group: Group, { scaling }: FunctionRecord): boolean =>
  scaling !== null &&
  (Object.keys(group.scaling) as (keyof Group['scaling'])[]).every(
    (member) => scaling[member] === group.scaling[member],
  );
