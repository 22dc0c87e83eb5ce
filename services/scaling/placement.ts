/** A group's document as a deployment, an activation or a change of the scaling leaves it. Pure. */
import type { Scaling } from '../../shared/domain/scaling.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { type Group, type Release, withEvent } from './group-records.ts';

/** What a change of the document leaves to do. */
export type Aftermath = {
  readonly isNew: boolean;
  /** Releases whose claims are given back. */
  readonly freed: readonly Release[];
  /** What is not to take over any more. */
  readonly dropped: Release | null;
};

export type Placement = { readonly write: Group; readonly aftermath: Aftermath };

/** The group as a deployment leaves it. */
export const placed = (
  group: Group | undefined,
  name: string,
  release: Release,
  scaling: Scaling,
  now: number,
): Placement => {
  if (group === undefined)
    return {
      write: newGroup(name, release, scaling, now),
      aftermath: { isNew: true, freed: [], dropped: null },
    };
  if (group.leavingAt !== null)
    throw new SluiceError('changed_meanwhile', `The scaling group ${name} is being deleted.`);
  const settled = group.next?.isTaking === true ? taken(group, now) : { group, freed: [] };
  const { current, next } = settled.group;
  const scaled = withScaling(settled.group, scaling, now);
  const freed = [...settled.freed];
  if (release.digest === current.digest) {
    // What runs already is what is wanted: only an update that is under way ends.
    const write = {
      ...scaled,
      current: { ...current, deployment: release.deployment },
      next: null,
      failure: null,
    };
    const text = `the update to version ${next?.version} was given up`;
    return {
      write: next === null ? write : withEvent(write, now, 'rolled_back', text),
      aftermath: {
        isNew: false,
        freed: [...freed, release, ...(next === null ? [] : [next])],
        dropped: next,
      },
    };
  }
  if (release.digest === next?.digest) {
    const write = { ...scaled, next: { ...next, deployment: release.deployment } };
    return { write, aftermath: { isNew: false, freed: [...freed, release], dropped: null } };
  }
  const write = withEvent(
    { ...scaled, next: release, failure: null },
    now,
    'updating',
    updateText(current, release),
  );
  return {
    write,
    aftermath: { isNew: false, freed: next === null ? freed : [...freed, next], dropped: null },
  };
};

/** A version whose activation was decided counts as what serves. */
export const taken = (
  group: Group,
  now: number,
): { readonly group: Group; readonly freed: readonly Release[] } => {
  const { current, next } = group;
  if (next === null) return { group, freed: [] };
  const { isTaking: _, ...serving } = next;
  const text = `version ${next.version} of ${next.model} serves`;
  const updated = withEvent(
    { ...group, current: serving, before: current, next: null, failure: null },
    now,
    'updated',
    text,
  );
  return { group: updated, freed: [current] };
};

const newGroup = (name: string, release: Release, scaling: Scaling, now: number): Group =>
  withEvent(
    {
      name,
      current: release,
      next: null,
      before: null,
      scaling,
      failure: null,
      seen: null,
      events: [],
      leavingAt: null,
      createdAt: now,
      updatedAt: now,
    },
    now,
    'deployed',
    `version ${release.version} of ${release.model}`,
  );

const withScaling = (group: Group, scaling: Scaling, now: number): Group => {
  const text = scalingText(group.scaling, scaling);
  const write = { ...group, scaling, updatedAt: now };
  return text === UNCHANGED ? write : withEvent(write, now, 'scaled', text);
};

const UNCHANGED = 'scaling as before';

export const scalingText = (from: Scaling, to: Scaling): string => {
  const changed = (Object.keys(to) as (keyof Scaling)[]).filter((member) => from[member] !== to[member]);
  if (changed.length === 0) return UNCHANGED;
  const range = ({ minReplicas, maxReplicas }: Scaling): string => `${minReplicas} to ${maxReplicas}`;
  if (changed.some((member) => member === 'minReplicas' || member === 'maxReplicas'))
    return `may have ${range(to)} replicas, before that ${range(from)}`;
  return `scaling changed: ${changed.map((member) => `${member} ${to[member]}`).join(', ')}`;
};

const updateText = (from: Release, to: Release): string =>
  from.model === to.model && from.version === to.version
    ? `version ${to.version} of ${to.model} with another deployment`
    : `from version ${from.version} of ${from.model} to version ${to.version} of ${to.model}`;
