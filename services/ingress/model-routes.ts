/** Models, their versions and aliases. */

import { Type } from 'typebox';
import { idempotencyHeaders } from '../../shared/wire/header-schemas.ts';
import * as wire from '../../shared/wire/model-schemas.ts';
import { MODELS_PAGE_MAX, VERSIONS_PAGE_MAX } from '../../shared/wire/model-schemas.ts';
import { openaiModel } from '../../shared/wire/openai/schemas.ts';
import { idempotencyKey } from '../calls/options.ts';
import { versionFor } from './hidden-variables.ts';
import { eitherModel, openaiModels } from './openai/model-list.ts';
import { identityOf, type Routes } from './room.ts';
import { addEntry, type TableEntry } from './table-routes.ts';

/** Source of 64 MiB in base64, a list of ten thousand files, and room for what the server writes beside them. */
const REGISTRATION_BYTES_MAX = 92 * 2 ** 20;

const MODEL = '/v1/models/{model}';
const VERSIONS = `${MODEL}/versions`;
const VERSION = `${VERSIONS}/{version}`;
const ALIAS = `${MODEL}/aliases/{alias}`;
const tag = 'models';

/** What the registry and OpenAI's clients each read of the same answers. */
const modelsOfBoth = Type.Object({
  ...wire.modelList.properties,
  object: Type.Literal('list'),
  data: Type.Array(openaiModel),
});
const modelOfEither = Type.Union([
  Type.Object({ ...wire.model.properties, ...openaiModel.properties }),
  openaiModel,
]);

const MODEL_ENTRIES: readonly TableEntry[] = [
  {
    ...{ method: 'GET', path: '/v1/models', tag, summary: 'List models, by name', scope: 'call' },
    ...{ query: wire.modelsQuery, view: modelsOfBoth },
    work: async ({ room, query: { limit = MODELS_PAGE_MAX, after = null } }) => ({
      value: {
        models: await room.models.list(limit as number, after as string | null),
        object: 'list',
        data: openaiModels(room),
      },
    }),
  },
  {
    ...{ method: 'GET', path: MODEL, tag, summary: 'Show a model', scope: 'call', view: modelOfEither },
    work: async ({ room, params }) => ({ value: await eitherModel(room, params.model!) }),
  },
  {
    ...{ method: 'PATCH', path: MODEL, tag, summary: 'Describe a model', scope: 'deploy' },
    ...{ body: wire.modelPatch, view: wire.model, statuses: [409] },
    work: async ({ room, params, body, now }) => ({
      value: await room.models.describe(params.model!, body, now),
    }),
  },
  {
    ...{ method: 'DELETE', path: MODEL, tag, summary: 'Delete a model that no scaling group runs' },
    ...{ scope: 'deploy', view: null, statuses: [409] },
    work: async ({ room, params, now }) => {
      await room.models.remove(params.model!, now);
      return undefined;
    },
  },
  {
    ...{ method: 'GET', path: `${MODEL}/compare`, tag, summary: 'Compare two versions', scope: 'call' },
    ...{ query: wire.compareQuery, view: wire.comparison },
    work: async ({ room, params, query }) => ({
      value: await room.models.compare(params.model!, query.from as string, query.to as string),
    }),
  },
  {
    ...{ method: 'PUT', path: ALIAS, tag, summary: 'Point an alias to a version', scope: 'deploy' },
    ...{ body: wire.aliasTarget, view: wire.model, statuses: [409] },
    work: async ({ room, params, body, now }) => ({
      value: await room.models.setAlias(params.model!, params.alias!, body, now),
    }),
  },
  {
    ...{ method: 'DELETE', path: ALIAS, tag, summary: 'Remove an alias', scope: 'deploy' },
    ...{ view: wire.model, statuses: [409] },
    work: async ({ room, params, now }) => ({
      value: await room.models.removeAlias(params.model!, params.alias!, now),
    }),
  },
];

const VERSION_ENTRIES: readonly TableEntry[] = [
  {
    ...{ method: 'POST', path: VERSIONS, tag, summary: 'Register a model version', scope: 'deploy' },
    ...{ body: wire.registration, bodyBytesMax: REGISTRATION_BYTES_MAX, view: wire.modelVersion },
    ...{ makes: true, statuses: [409], takes: idempotencyHeaders },
    work: async ({ room, params, body, request, now }) => {
      const { isNew, view } = await room.models.register({
        ...{ name: params.model!, body, now, apiKeyId: identityOf(request).id },
        idempotencyKey: idempotencyKey(request.headers),
      });
      return isNew
        ? { value: view, at: `/v1/models/${view.model}/versions/${view.version}` }
        : { value: view };
    },
  },
  {
    ...{ method: 'GET', path: VERSIONS, tag, summary: 'List versions, newest first, without source' },
    ...{ scope: 'call', query: wire.versionsQuery, view: wire.versionList },
    work: async ({ room, params, request, query: { limit = VERSIONS_PAGE_MAX, after = null } }) => {
      const found = await room.models.versions(params.model!, limit as number, after as number | null);
      return { value: { versions: found.map((version) => versionFor(identityOf(request), version)) } };
    },
  },
  {
    ...{ method: 'GET', path: VERSION, tag, summary: 'Show a version, with its source', scope: 'call' },
    view: wire.modelVersion,
    work: async ({ room, params, request }) => ({
      value: versionFor(identityOf(request), await room.models.showVersion(params.model!, params.version!)),
    }),
  },
  {
    ...{ method: 'PATCH', path: VERSION, tag, summary: 'Change stage or metadata', scope: 'deploy' },
    ...{ body: wire.versionPatch, view: wire.modelVersion, statuses: [409] },
    work: async ({ room, params, body }) => ({
      value: await room.models.updateVersion(params.model!, params.version!, body),
    }),
  },
  {
    ...{ method: 'DELETE', path: VERSION, tag, summary: 'Delete a version that no scaling group runs' },
    ...{ scope: 'deploy', view: null, statuses: [409] },
    work: async ({ room, params, now }) => {
      await room.models.removeVersion(params.model!, params.version!, now);
      return undefined;
    },
  },
];

export const modelRoutes: Routes = (app, room) => {
  for (const entry of [...MODEL_ENTRIES, ...VERSION_ENTRIES]) addEntry(app, room, entry);
};
