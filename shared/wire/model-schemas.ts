/** JSON Schemas of models, their versions and scaling groups. `model-api.ts` has the same shapes as types. */
import { type Static, type TSchema, Type } from 'typebox';
import { TASKS, type TypeJson } from '../domain/function.ts';
import {
  engineSelector,
  groupEngine,
  groupSelector,
  groupValues,
  predictorValues,
} from './engines-schemas.ts';
import {
  type ComparisonJson,
  EVENT_KINDS,
  GROUP_STATES,
  type ModelJson,
  type ModelVersionJson,
  type ScalingGroupJson,
} from './model-api.ts';

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const optional = <T extends TSchema>(schema: T) => Type.Optional(nullable(schema));
const closed = { additionalProperties: false } as const;
const instant = Type.String({ format: 'date-time' });
const count = Type.Integer({ minimum: 0 });
const positive = Type.Integer({ minimum: 1 });
const texts = Type.Record(Type.String(), Type.String());
const BACKEND_NAMES = ['process', 'container', 'kubernetes'] as const;

/** Models or versions of one page. */
export const MODELS_PAGE_MAX = 1000;
export const VERSIONS_PAGE_MAX = 100;
/** Each with its events, and the texts that they hold. */
export const GROUPS_PAGE_MAX = 100;

const field = Type.Object({
  name: Type.String(),
  type: Type.Unsafe<TypeJson>({
    description: 'A type of docs/API.md, "Types".',
  }),
  nullable: Type.Boolean(),
});
const fieldRequest = Type.Object(
  { ...field.properties, nullable: Type.Optional(Type.Boolean({ default: true })) },
  closed,
);
const file = Type.Object({
  path: Type.String({ description: 'Relative, with /, without . or ..' }),
  digest: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
  bytes: count,
});
const image = Type.Union([
  Type.Object({ reference: Type.String() }, closed),
  Type.Object({ containerfile: Type.String(), context: Type.Array(file) }, closed),
]);
const handler = Type.Object({ file: Type.String(), attribute: Type.String() }, closed);
const source = Type.Array(
  Type.Object({ path: Type.String(), content: Type.String({ description: 'base64' }) }),
);
const loader = Type.Record(Type.String(), Type.Unknown());
const alias = Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,63}$', description: 'Not `latest`.' });

const fieldRequests = optional(
  Type.Array(fieldRequest, { maxItems: 1000, description: 'May be left out, or empty, with `import` only.' }),
);
const importRequest = Type.Object(
  {
    project: Type.String(),
    summary: optional(Type.String()),
    version: optional(Type.String()),
    task_type: optional(Type.String()),
    class_labels: optional(Type.Record(Type.String(), count)),
  },
  closed,
);
const imported = Type.Object({
  project: Type.String(),
  summary: Type.String(),
  version: nullable(Type.String()),
  task_type: nullable(Type.String()),
  class_labels: Type.Record(Type.String(), count),
});

export const registration = Type.Object(
  {
    inputs: fieldRequests,
    outputs: fieldRequests,
    handler: optional(handler),
    source: optional(source),
    files: optional(Type.Array(file, { maxItems: 10_000 })),
    loader: optional(loader),
    dependencies: optional(Type.Array(Type.String(), { maxItems: 1000 })),
    interpreter: optional(Type.String()),
    image: optional(image),
    metadata: optional(texts),
    stage: optional(Type.String()),
    aliases: optional(Type.Array(alias, { maxItems: 100 })),
    import: optional(importRequest),
  },
  closed,
);

export const modelVersion = Type.Object({
  model: Type.String(),
  version: positive,
  inputs: Type.Array(field),
  outputs: Type.Array(field),
  handler: nullable(handler),
  source: Type.Optional(source),
  files: Type.Array(file),
  loader: nullable(loader),
  dependencies: Type.Array(Type.String()),
  interpreter: nullable(Type.String()),
  image: nullable(image),
  metadata: texts,
  stage: nullable(Type.String()),
  import: Type.Optional(imported),
  aliases: Type.Array(Type.String()),
  used_by: Type.Array(Type.String(), { description: 'Scaling groups that run it, or are about to.' }),
  created_at: instant,
});
export const versionList = Type.Object({ versions: Type.Array(modelVersion) });
export const versionPatch = Type.Object(
  { stage: optional(Type.String()), metadata: Type.Optional(texts) },
  { ...closed, minProperties: 1 },
);

export const model = Type.Object({
  name: Type.String(),
  description: Type.String(),
  latest_version: nullable(positive),
  versions: Type.Array(positive),
  aliases: Type.Record(Type.String(), positive),
  created_at: instant,
  updated_at: instant,
});
export const modelList = Type.Object({ models: Type.Array(model) });
export const modelPatch = Type.Object({ description: Type.String({ maxLength: 10_000 }) }, closed);
export const aliasTarget = Type.Object({ version: positive }, closed);

const fileChanges = Type.Array(
  Type.Object({
    path: Type.String(),
    change: Type.Enum(['added', 'removed', 'changed']),
    from: nullable(Type.String()),
    to: nullable(Type.String()),
  }),
);
export const comparison = Type.Object({
  from: positive,
  to: positive,
  differences: Type.Array(Type.Object({ field: Type.String(), from: Type.Unknown(), to: Type.Unknown() })),
  files: fileChanges,
  source: fileChanges,
});

const scaling = Type.Object({
  min_replicas: count,
  max_replicas: positive,
  target_rows: nullable(positive),
  target_wait_ms: nullable(count),
  target_cpu_percent: nullable(Type.Number()),
  scale_down_ms: count,
  idle_ms: count,
});
const scalingRequest = Type.Partial(
  Type.Object(
    Object.fromEntries(Object.entries(scaling.properties).map(([k, v]) => [k, nullable(v as TSchema)])),
  ),
  closed,
);
const resources = Type.Object({
  cpu: nullable(Type.Number()),
  memory_bytes: nullable(positive),
  gpu: nullable(Type.String({ description: '`type` or `type:count`' })),
});
const retry = Type.Object({
  retries: count,
  initial_ms: Type.Number(),
  multiplier: Type.Number(),
  max_ms: Type.Number(),
  jitter: Type.Number(),
  retry_on: Type.Array(Type.String()),
  terminal_on: Type.Array(Type.String()),
});
const inferenceStore = Type.Object({
  sample_rate: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
  retention_ms: Type.Integer({ minimum: 60_000, description: 'At most 400 days.' }),
  flush_ms: Type.Integer({ minimum: 100, maximum: 3_600_000 }),
});
const inferenceStoreRequest = Type.Partial(
  Type.Object(
    Object.fromEntries(
      Object.entries(inferenceStore.properties).map(([k, v]) => [k, nullable(v as TSchema)]),
    ),
  ),
  closed,
);
const limits = {
  max_batching_size: optional(positive),
  max_buffer_duration: optional(count),
  max_batch_bytes: optional(Type.Integer({ minimum: 1024 })),
};

export const groupDeployment = Type.Object(
  {
    model: Type.String(),
    version: optional(
      Type.Union([positive, Type.String()], {
        description: 'A number, an alias or `latest`; null: the latest.',
      }),
    ),
    backend: optional(Type.Enum([...BACKEND_NAMES])),
    scaling: optional(scalingRequest),
    resources: optional(Type.Partial(resources, closed)),
    env: optional(texts),
    image: optional(image),
    handler: optional(Type.String({ description: '`module.attribute`; with an image only.' })),
    on_startup: optional(Type.String({ description: '`module.attribute`; with an image only.' })),
    entrypoint: optional(Type.Array(Type.String())),
    port: optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
    skip_artifacts: optional(Type.Boolean()),
    ready_timeout_ms: optional(Type.Integer({ minimum: 1000 })),
    ...limits,
    retry: optional(Type.Partial(retry, closed)),
    isolation: optional(Type.Enum(['bisect', 'off'])),
    call_timeout_ms: optional(positive),
    task: optional(Type.Enum([...TASKS])),
    engine_selector: optional(engineSelector),
    predictor_env_var: optional(predictorValues),
    inference_store: optional(inferenceStoreRequest),
  },
  closed,
);
export const groupPatch = Type.Object(
  { scaling: optional(scalingRequest), ...limits },
  { ...closed, minProperties: 1 },
);

const replica = Type.Object({
  version: nullable(positive),
  index: Type.Integer(),
  state: Type.Enum(['starting', 'ready', 'failed', 'stopping']),
  since: instant,
  reason: nullable(Type.String()),
  place: nullable(Type.String({ description: 'Process id, container name or pod name.' })),
  devices: Type.Array(Type.Integer()),
  restarts: count,
  running_rows: count,
  cpu_percent: nullable(Type.Number()),
  memory_bytes: nullable(Type.Number()),
  worker: Type.String(),
});

export const scalingGroup = Type.Object({
  name: Type.String(),
  function: Type.String({ description: '`model.<name>`: what is called.' }),
  model: Type.String(),
  version: positive,
  requested_version: Type.Union([positive, Type.String(), Type.Null()]),
  backend: Type.Enum([...BACKEND_NAMES]),
  state: Type.Enum([...GROUP_STATES]),
  reason: nullable(Type.String()),
  paused: Type.Boolean(),
  replicas: Type.Object({ ready: count, starting: count, failed: count, details: Type.Array(replica) }),
  update: nullable(Type.Object({ version: positive, since: instant, reason: nullable(Type.String()) })),
  scaling,
  resources,
  env: texts,
  image: nullable(image),
  handler: nullable(Type.String()),
  on_startup: nullable(Type.String()),
  entrypoint: nullable(Type.Array(Type.String())),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  skip_artifacts: Type.Boolean(),
  inputs: Type.Array(field),
  outputs: Type.Array(field),
  max_batching_size: nullable(positive),
  max_buffer_duration: nullable(count),
  max_batch_bytes: positive,
  retry,
  isolation: Type.Enum(['bisect', 'off']),
  call_timeout_ms: positive,
  ready_timeout_ms: positive,
  task: nullable(Type.Enum([...TASKS])),
  engine_selector: nullable(groupSelector),
  engine: nullable(groupEngine),
  predictor_env_var: groupValues,
  inference_store: nullable(inferenceStore),
  events: Type.Array(Type.Object({ at: instant, kind: Type.Enum([...EVENT_KINDS]), text: Type.String() })),
  created_at: instant,
  updated_at: instant,
});
export const scalingGroupList = Type.Object({ scaling_groups: Type.Array(scalingGroup) });

export const modelsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MODELS_PAGE_MAX })),
    after: Type.Optional(
      Type.String({ minLength: 1, maxLength: 100, description: 'The last name of the page before.' }),
    ),
  },
  closed,
);
export const groupsQuery = Type.Object(
  { ...modelsQuery.properties, limit: Type.Optional(Type.Integer({ minimum: 1, maximum: GROUPS_PAGE_MAX })) },
  closed,
);
export const versionsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: VERSIONS_PAGE_MAX })),
    after: Type.Optional(Type.Integer({ minimum: 1, description: 'The last number of the page before.' })),
  },
  closed,
);
const reference = Type.String({
  minLength: 1,
  maxLength: 100,
  description: 'A number, an alias or `latest`.',
});
export const compareQuery = Type.Object({ from: reference, to: reference }, closed);
export const removeGroupQuery = Type.Object(
  { force: Type.Optional(Type.Boolean({ description: 'Cancels unfinished calls.' })) },
  closed,
);

/** A compile error here means that a schema and its type in model-api.ts have come apart. */
type Same<Schema extends TSchema, Shape> = Shape extends Static<Schema> ? true : never;
/** Arrow types go as they are: they hold tuples, and themselves. */
type Mutable<T> = T extends TypeJson
  ? T
  : T extends readonly (infer Item)[]
    ? Mutable<Item>[]
    : T extends object
      ? { -readonly [K in keyof T]: Mutable<T[K]> }
      : T;
export const modelsInStep: readonly [
  Same<typeof model, Mutable<ModelJson>>,
  Same<typeof comparison, Mutable<ComparisonJson>>,
  Same<typeof modelVersion, Mutable<ModelVersionJson>>,
  Same<typeof scalingGroup, Mutable<ScalingGroupJson>>,
] = [true, true, true, true];
