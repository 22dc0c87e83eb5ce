/** JSON Schemas of inference engines. `engines-api.ts` has the same shapes as types. */
import { type Static, type TSchema, Type } from 'typebox';
import { PREDICTOR_TYPES } from '../domain/engine.ts';
import type { EngineJson, EngineVersionJson } from './engines-api.ts';

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const optional = <T extends TSchema>(schema: T) => Type.Optional(nullable(schema));
const closed = { additionalProperties: false } as const;
const instant = Type.String({ format: 'date-time' });
const texts = Type.Record(Type.String(), Type.String());
const port = Type.Integer({ minimum: 1, maximum: 65_535 });
const seconds = Type.Number({ minimum: 0 });
const threshold = Type.Integer({ minimum: 1 });
const value = Type.Union([Type.String(), Type.Number(), Type.Boolean()]);
const name = Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,99}$' });
const version = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$', description: 'Not `default`.' });
const words = Type.Array(Type.String(), { minItems: 1, maxItems: 128 });

/** Engines of one page. */
export const ENGINES_PAGE_MAX = 1000;

const probe = Type.Object({
  path: nullable(Type.String({ description: 'May hold `{model_id}`; null: `/ready` below the base URL.' })),
  port: nullable(port),
  initial_delay_seconds: seconds,
  timeout_seconds: seconds,
  period_seconds: seconds,
  success_threshold: threshold,
  failure_threshold: threshold,
});
const probeRequest = Type.Partial(
  Type.Object(
    Object.fromEntries(Object.entries(probe.properties).map(([k, v]) => [k, nullable(v as TSchema)])),
  ),
  closed,
);

const variableType = Type.Enum([...PREDICTOR_TYPES]);
const variable = Type.Object({
  name: Type.String(),
  type: variableType,
  default_value: nullable(value),
  display_text: nullable(Type.String()),
});
const variableRequest = Type.Object(
  {
    name: Type.String(),
    type: optional(variableType),
    default_value: optional(value),
    display_text: optional(Type.String({ maxLength: 1000 })),
  },
  closed,
);

export const engineRequest = Type.Object(
  {
    project: name,
    name,
    version,
    container_image_cpu: optional(Type.String()),
    container_image_gpu: optional(Type.String()),
    is_default: optional(Type.Boolean()),
    supports_multi_gpu: optional(Type.Boolean()),
    env: optional(texts),
    entrypoint: optional(words),
    command: optional(words),
    port: optional(port),
    readiness_probe: optional(probeRequest),
    container_root_relative_base_url: optional(
      Type.String({ maxLength: 200, description: '`{model_id}` is the lower-cased name of the model.' }),
    ),
    predictor_env_schema: optional(Type.Array(variableRequest, { maxItems: 500 })),
    enforce_predictor_env_schema: optional(Type.Boolean()),
    inference_protocol: optional(Type.Enum(['oip-v2', 'chariot-v2-kserve', 'none'])),
  },
  closed,
);

export const engineVersion = Type.Object({
  project: Type.String(),
  name: Type.String(),
  version: Type.String(),
  is_default: Type.Boolean(),
  container_image_cpu: nullable(Type.String()),
  container_image_gpu: nullable(Type.String()),
  supports_multi_gpu: Type.Boolean(),
  env: texts,
  entrypoint: nullable(Type.Array(Type.String())),
  command: nullable(Type.Array(Type.String())),
  port,
  readiness_probe: probe,
  container_root_relative_base_url: Type.String(),
  predictor_env_schema: Type.Array(variable),
  enforce_predictor_env_schema: Type.Boolean(),
  inference_protocol: nullable(Type.Enum(['oip-v2'])),
  used_by: Type.Array(Type.String(), { description: 'Scaling groups that run it, or are about to.' }),
  created_at: instant,
});

export const engine = Type.Object({
  project: Type.String(),
  name: Type.String(),
  default_version: nullable(Type.String()),
  versions: Type.Array(Type.String()),
  created_at: instant,
  updated_at: instant,
});
export const engineList = Type.Object({ engines: Type.Array(engine) });
export const engineDefault = Type.Object({ version }, closed);

export const enginesQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: ENGINES_PAGE_MAX })),
    after: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$',
        description: 'Project and name of the last one of the page before, as `project/name`.',
      }),
    ),
    project: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
  },
  closed,
);

/** Of a deployment. */
export const engineSelector = Type.Object(
  { org_name: optional(Type.String()), project_name: name, engine_name: name, version: optional(version) },
  closed,
);
export const predictorValues = Type.Record(Type.String(), nullable(value));
/** Of a group. */
export const groupSelector = Type.Object({
  org_name: nullable(Type.String()),
  project_name: Type.String(),
  engine_name: Type.String(),
  version: nullable(Type.String()),
});
export const groupEngine = Type.Object({
  project: Type.String(),
  name: Type.String(),
  version: Type.String(),
  predictor_env: texts,
});
export const groupValues = Type.Record(Type.String(), value);

/** A compile error here means that a schema and its type in engines-api.ts have come apart. */
type Same<Schema extends TSchema, Shape> = Shape extends Static<Schema> ? true : never;
type Mutable<T> = T extends readonly (infer Item)[]
  ? Mutable<Item>[]
  : T extends object
    ? { -readonly [K in keyof T]: Mutable<T[K]> }
    : T;
export const enginesInStep: readonly [
  Same<typeof engine, Mutable<EngineJson>>,
  Same<typeof engineVersion, Mutable<EngineVersionJson>>,
] = [true, true];
