/** Drift of a scaling group: a reference that stands, a window that moves, and the figures that compare them. */
import * as wire from '../../shared/wire/drift-schemas.ts';
import { DriftOfGroups } from '../inferences/drift-settings.ts';
import type { Room, Routes } from './room.ts';
import { addEntry, type TableEntry } from './table-routes.ts';

const DRIFT = '/v1/scaling-groups/{name}/drift';
const tag = 'scaling groups';

const driftOf = ({ store }: Room): DriftOfGroups => new DriftOfGroups(store.documents);

const ENTRIES: readonly TableEntry[] = [
  {
    ...{ method: 'PUT', path: DRIFT, tag, summary: 'Compare rows of now with a reference' },
    ...{ scope: 'deploy', body: wire.driftRequest, view: wire.drift, statuses: [409] },
    work: async ({ room, params, body, now }) => ({
      value: await driftOf(room).set(params.name!, body, now),
    }),
  },
  {
    ...{ method: 'GET', path: DRIFT, tag, summary: 'Show the reference, and the last figures' },
    // Figures tell of distributions, and of no row.
    ...{ scope: 'call', view: wire.drift },
    work: async ({ room, params, now }) => ({ value: await driftOf(room).show(params.name!, now) }),
  },
  {
    ...{ method: 'DELETE', path: DRIFT, tag, summary: 'Compare no more' },
    ...{ scope: 'deploy', view: null, statuses: [409] },
    work: async ({ room, params }) => {
      await driftOf(room).remove(params.name!);
      return undefined;
    },
  },
];

export const driftRoutes: Routes = (app, room) => {
  for (const entry of ENTRIES) addEntry(app, room, entry);
};
