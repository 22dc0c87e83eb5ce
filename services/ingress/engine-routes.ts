/** Inference engines: register, list, show, make a version the default, delete. */
import * as wire from '../../shared/wire/engines-schemas.ts';
import { ENGINES_PAGE_MAX } from '../../shared/wire/engines-schemas.ts';
import { engineFor } from './hidden-variables.ts';
import { identityOf, type Routes } from './room.ts';
import { type Asked, addEntry, type TableEntry } from './table-routes.ts';

/** Variables with their defaults, and two commands. */
const ENGINE_BYTES_MAX = 4 * 2 ** 20;

const ENGINES = '/v1/engines';
const ENGINE = `${ENGINES}/{project}/{name}`;
const VERSION = `${ENGINE}/versions/{version}`;
const tag = 'engines';

const nameOf = ({ params }: Asked) => ({ project: params.project!, name: params.name! });
const referenceOf = (asked: Asked) => ({ ...nameOf(asked), version: asked.params.version! });

const ENTRIES: readonly TableEntry[] = [
  {
    ...{ method: 'POST', path: ENGINES, tag, summary: 'Register an engine version', scope: 'deploy' },
    ...{ body: wire.engineRequest, bodyBytesMax: ENGINE_BYTES_MAX, view: wire.engineVersion },
    ...{ makes: true, statuses: [409] },
    work: async ({ room, body, now }) => {
      const { isNew, view } = await room.engines.register(body, now);
      const at = `${ENGINES}/${view.project}/${view.name}/versions/${view.version}`;
      return isNew ? { value: view, at } : { value: view };
    },
  },
  {
    ...{ method: 'GET', path: ENGINES, tag, summary: 'List engines, by project and name', scope: 'call' },
    ...{ query: wire.enginesQuery, view: wire.engineList },
    work: async ({ room, query: { limit = ENGINES_PAGE_MAX, after = null, project = null } }) => ({
      value: {
        engines: await room.engines.list({
          limit: limit as number,
          after: after as string | null,
          project: project as string | null,
        }),
      },
    }),
  },
  {
    ...{ method: 'GET', path: ENGINE, tag, summary: 'Show an engine', scope: 'call', view: wire.engine },
    work: async (asked) => ({ value: await asked.room.engines.show(nameOf(asked)) }),
  },
  {
    ...{ method: 'DELETE', path: ENGINE, tag, summary: 'Delete an engine that no scaling group runs' },
    ...{ scope: 'deploy', view: null, statuses: [409] },
    work: async (asked) => {
      await asked.room.engines.remove(nameOf(asked));
      return undefined;
    },
  },
  {
    ...{ method: 'PUT', path: `${ENGINE}/default`, tag, summary: 'Make a version the default' },
    ...{ scope: 'deploy', body: wire.engineDefault, view: wire.engine, statuses: [409] },
    work: async (asked) => ({
      value: await asked.room.engines.setDefault(nameOf(asked), asked.body, asked.now),
    }),
  },
  {
    ...{ method: 'GET', path: VERSION, tag, summary: 'Show an engine version, or the `default` one' },
    ...{ scope: 'call', view: wire.engineVersion },
    work: async (asked) => ({
      value: engineFor(identityOf(asked.request), await asked.room.engines.showVersion(referenceOf(asked))),
    }),
  },
  {
    ...{ method: 'DELETE', path: VERSION, tag, summary: 'Delete a version that no scaling group runs' },
    ...{ scope: 'deploy', view: null, statuses: [409] },
    work: async (asked) => {
      await asked.room.engines.removeVersion(referenceOf(asked), asked.now);
      return undefined;
    },
  },
];

export const engineRoutes: Routes = (app, room) => {
  for (const entry of ENTRIES) addEntry(app, room, entry);
};
