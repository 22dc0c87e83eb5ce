/** Scaling groups: deploy, list, show, scale, roll back, delete. */
import * as wire from '../../shared/wire/model-schemas.ts';
import { groupFor } from './hidden-variables.ts';
import { identityOf, type Routes } from './room.ts';
import { addEntry, type TableEntry } from './table-routes.ts';

/** A Containerfile, the list of its context, and variables. Three of them may lie in the group's document. */
const DEPLOYMENT_BYTES_MAX = 4 * 2 ** 20;

const GROUPS = '/v1/scaling-groups';
const GROUP = `${GROUPS}/{name}`;
const tag = 'scaling groups';

const ENTRIES: readonly TableEntry[] = [
  {
    ...{ method: 'GET', path: GROUPS, tag, summary: 'List scaling groups, by name', scope: 'call' },
    ...{ query: wire.groupsQuery, view: wire.scalingGroupList },
    work: async ({ room, request, query: { limit = wire.GROUPS_PAGE_MAX, after = null } }) => {
      const groups = await room.groups.list(limit as number, after as string | null);
      return { value: { scaling_groups: groups.map((group) => groupFor(identityOf(request), group)) } };
    },
  },
  {
    ...{ method: 'GET', path: GROUP, tag, summary: 'Show a scaling group', scope: 'call' },
    view: wire.scalingGroup,
    work: async ({ room, params, request }) => ({
      value: groupFor(identityOf(request), await room.groups.show(params.name!)),
    }),
  },
  {
    ...{
      method: 'PUT',
      path: GROUP,
      tag,
      summary: 'Deploy a model version, or update to it',
      scope: 'deploy',
    },
    ...{ body: wire.groupDeployment, bodyBytesMax: DEPLOYMENT_BYTES_MAX, view: wire.scalingGroup },
    ...{ makes: true, statuses: [409] },
    work: async ({ room, params, body, now }) => {
      const { isNew, view } = await room.groups.deploy(params.name!, body, now);
      return isNew ? { value: view, at: `${GROUPS}/${view.name}` } : { value: view };
    },
  },
  {
    ...{ method: 'PATCH', path: GROUP, tag, summary: 'Scale; no replica starts again', scope: 'deploy' },
    ...{ body: wire.groupPatch, view: wire.scalingGroup, statuses: [409] },
    work: async ({ room, params, body, now }) => ({
      value: await room.groups.update(params.name!, body, now),
    }),
  },
  {
    ...{ method: 'POST', path: `${GROUP}/rollback`, tag, summary: 'Go back to what ran before' },
    ...{ scope: 'deploy', view: wire.scalingGroup, statuses: [409] },
    work: async ({ room, params, now }) => ({ value: await room.groups.rollback(params.name!, now) }),
  },
  {
    ...{ method: 'DELETE', path: GROUP, tag, summary: 'Delete a group without unfinished calls' },
    ...{ scope: 'deploy', query: wire.removeGroupQuery, view: null, statuses: [409] },
    work: async ({ room, params, query, now }) => {
      await room.groups.remove(params.name!, query.force === true, now);
      return undefined;
    },
  },
];

export const scalingGroupRoutes: Routes = (app, room) => {
  for (const entry of ENTRIES) addEntry(app, room, entry);
};
