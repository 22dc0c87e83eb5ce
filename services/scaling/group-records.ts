/**
 * What the store keeps of a scaling group: one document that says what it is to run. It is written before the function is
 * changed, and whoever looks at the group later (rollouts.ts) brings the function to it, so that a step that was cut off is
 * taken again.
 *
 *   next ─ its replicas are ready ─► current ─ the next one is ready ─► before ─ rollback ─► next
 *     └─── they do not become ready: dropped, and `failure` says why
 */
import { excerpt } from '../../shared/domain/excerpt.ts';
import type { Batching, FieldJson } from '../../shared/domain/function.ts';
import type { ModelImage } from '../../shared/domain/model.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import type { BackendName, EventKind, GroupState } from '../../shared/wire/model-api.ts';
import { MODEL_NAME } from '../../shared/wire/model-members.ts';
import type { Deployment } from '../../shared/wire/scaling-groups.ts';
import { allDocuments, type Change, changeDocument } from '../registry/documents.ts';

/** The newest of a group. */
const EVENTS_MAX = 100;
/** Of one event: what happened, and the end of a traceback. */
const TEXT_CHARACTERS_MAX = 4000;
const GROUPS_MAX = 1000;

/** An engine version as a group runs it. */
export type ReleasedEngine = {
  readonly project: string;
  readonly name: string;
  readonly version: string;
  /** What was asked for, and defaults, cast. */
  readonly predictorEnv: Readonly<Record<string, string>>;
};

/** A model version as a group runs it. */
export type Release = {
  readonly model: string;
  readonly version: number;
  readonly deployment: Deployment;
  /** The engine that serves it; left out, or null: it serves itself. */
  readonly engine?: ReleasedEngine | null;
  readonly backend: BackendName;
  readonly inputs: readonly FieldJson[];
  readonly outputs: readonly FieldJson[];
  /** As it was deployed; a live update of the function may have changed it. */
  readonly batching: Batching;
  /** Of the function's version. */
  readonly digest: string;
  /** Its claim on the model version, and on the engine's. */
  readonly token: string;
  readonly since: number;
  /** Its activation was decided: from here on it counts as what serves, also when the step itself is still to come. */
  readonly isTaking?: boolean;
};

export type GroupEvent = { readonly at: number; readonly kind: EventKind; readonly text: string };

export type Group = {
  readonly name: string;
  readonly current: Release;
  /** Staged, or about to be. */
  readonly next: Release | null;
  /** What a rollback goes to. */
  readonly before: Release | null;
  readonly scaling: Scaling;
  /** Why the last update was dropped; null once another one began. */
  readonly failure: { readonly version: number; readonly at: number; readonly reason: string } | null;
  /** What was seen of its replicas last, to tell what changed. */
  readonly seen: { readonly state: GroupState; readonly ready: number } | null;
  readonly events: readonly GroupEvent[];
  /** Its removal is under way since then. */
  readonly leavingAt: number | null;
  readonly createdAt: number;
  readonly updatedAt: number;
};

export const shortened = (text: string): string => excerpt(text, TEXT_CHARACTERS_MAX);

export const withEvent = (group: Group, at: number, kind: EventKind, text: string): Group => ({
  ...group,
  events: [...group.events, { at, kind, text: shortened(text) }].slice(-EVENTS_MAX),
  updatedAt: at,
});

export const groupNotFound = (name: string): SluiceError =>
  new SluiceError(
    'scaling_group_not_found',
    `There is no scaling group ${JSON.stringify(name.slice(0, 100))}.`,
    {
      field: 'name',
    },
  );

export class GroupRecords {
  readonly #documents: Documents;

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  async all(): Promise<readonly Group[]> {
    const groups: Group[] = [];
    for await (const { value } of allDocuments<Group>(this.#documents, 'scaling-group')) groups.push(value);
    return groups;
  }

  /** By name; fewer than `limit` are the last. */
  async page(limit: number, after: string | null): Promise<readonly Group[]> {
    const query = { kind: 'scaling-group', limit, ...(after === null ? {} : { after }) } as const;
    return (await this.#documents.list(query)).map(({ value }) => value as Group);
  }

  async find(name: string): Promise<Group | undefined> {
    if (!MODEL_NAME.test(name)) return undefined;
    return (await this.#documents.get('scaling-group', name))?.value as Group | undefined;
  }

  /** @throws SluiceError `scaling_group_not_found` */
  async read(name: string): Promise<Group> {
    const found = await this.find(name);
    if (found === undefined) throw groupNotFound(name);
    return found;
  }

  /** `decide` may run several times. */
  change<A>(
    name: string,
    decide: (group: Group | undefined) => Change<Group, A> | Promise<Change<Group, A>>,
  ): Promise<A> {
    return changeDocument(this.#documents, 'scaling-group', name, decide);
  }

  /** @throws SluiceError `scaling_group_not_found` */
  async changeFound<A>(name: string, decide: (group: Group) => Change<Group, A>): Promise<A> {
    if (!MODEL_NAME.test(name)) throw groupNotFound(name);
    return this.change(name, (group) => {
      if (group === undefined) throw groupNotFound(name);
      return decide(group);
    });
  }

  /** @throws SluiceError `invalid_scaling_group` when there is no room for another one */
  async checkRoom(name: string): Promise<void> {
    if ((await this.find(name)) !== undefined) return;
    const count = (await this.all()).length;
    if (count < GROUPS_MAX) return;
    throw new SluiceError(
      'invalid_scaling_group',
      `There are ${count} scaling groups, and at most ${GROUPS_MAX}; delete some.`,
      { field: 'name' },
    );
  }
}

/** What groups hold of the registry: their claims on versions, their functions' versions, and images of their own. */
export const groupHoldings = (
  groups: readonly Group[],
): {
  readonly tokens: ReadonlySet<string>;
  readonly digests: ReadonlySet<string>;
  readonly images: readonly ModelImage[];
} => {
  const releases = groups.flatMap(({ current, next, before }) =>
    [current, next, before].filter((release) => release !== null),
  );
  return {
    tokens: new Set(releases.map(({ token }) => token)),
    digests: new Set(releases.map(({ digest }) => digest)),
    images: releases.flatMap(({ deployment }) => (deployment.image === null ? [] : [deployment.image])),
  };
};
