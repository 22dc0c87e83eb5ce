/** JSON Schemas of every request and answer: the contract that /openapi.json shows. `api.ts` has the same shapes as types. */
import { type Static, type TSchema, Type } from 'typebox';
import type { CallJson, FunctionJson, KeyJson, LogLineJson, ResultJson, ServerJson } from './api.ts';

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const closed = { additionalProperties: false } as const;
const instant = Type.String({ format: 'date-time' });
const count = Type.Integer({ minimum: 0 });

export const STATUS_NAMES = ['pending', 'running', 'completed', 'failed', 'cancelled', 'expired'] as const;
export const SCOPE_NAMES = ['call', 'deploy', 'admin'] as const;
/** Limits of the wire that are not settings. */
export const PAGE_MAX = 1000;
export const LOG_LINES_MAX = 1000;
export const METADATA_BYTES_MAX = 4096;
export const PRIORITY_MAX = 100;
export const LANE_CHARACTERS_MAX = 256;
export const DEADLINE_MS_MAX = 400 * 86_400_000;
export const IDEMPOTENCY_KEY_CHARACTERS_MAX = 255;
/** The interface's longest wait; the setting `waitMaxMs` may be shorter and then cuts it. */
export const WAIT_SECONDS_MAX = 600;

export const problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String(),
    retryable: Type.Boolean(),
    fix: Type.String(),
  },
  { additionalProperties: true, description: 'RFC 9457 problem document; codes are in docs/ERRORS.md.' },
);

const counts = Type.Object({
  ok: count,
  failed: count,
  cancelled: count,
  expired: count,
  unfinished: count,
});

export const call = Type.Object({
  call_id: Type.String(),
  function: Type.String(),
  version: Type.String(),
  status: Type.Enum([...STATUS_NAMES]),
  rows: count,
  counts,
  lane: Type.String(),
  priority: Type.Integer(),
  metadata: Type.Record(Type.String(), Type.String()),
  arrived_at: instant,
  started_at: nullable(instant),
  finished_at: nullable(instant),
  deadline_at: nullable(instant),
  expires_at: nullable(instant),
  queue_ms: nullable(Type.Number()),
  handler_ms: Type.Number(),
  durability: Type.String(),
  attached: Type.Optional(Type.Boolean()),
});

export const callPage = Type.Object({ calls: Type.Array(call), next_cursor: nullable(Type.String()) });

export const result = Type.Object({
  call_id: Type.String(),
  status: Type.Enum([...STATUS_NAMES]),
  rows: count,
  counts,
  result: Type.Array(Type.Unknown(), {
    description: 'One value of the output type a row; null where not ok.',
  }),
  errors: Type.Array(
    Type.Object({
      from: count,
      count,
      code: Type.String(),
      message: Type.String(),
      kind: Type.Optional(Type.String()),
      traceback: Type.Optional(Type.String()),
    }),
  ),
});

/** Described here, checked by shared/arrow and services/calls: a validator over a million rows would be a second pass. */
export const submission = Type.Object(
  {
    columns: Type.Optional(Type.Record(Type.String(), Type.Array(Type.Unknown()))),
    rows: Type.Optional(Type.Array(Type.Record(Type.String(), Type.Unknown()))),
    priority: Type.Optional(Type.Integer({ minimum: -PRIORITY_MAX, maximum: PRIORITY_MAX, default: 0 })),
    lane: Type.Optional(Type.String({ maxLength: LANE_CHARACTERS_MAX })),
    deadline_ms: Type.Optional(nullable(Type.Number({ exclusiveMinimum: 0, maximum: DEADLINE_MS_MAX }))),
    metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
  },
  {
    ...closed,
    oneOf: [{ required: ['columns'] }, { required: ['rows'] }],
    description: 'Rows, either by column or one by one.',
  },
);

export const spec = Type.Object(
  {},
  { additionalProperties: true, description: 'SPEC of docs/API.md; every option is checked by name.' },
);
export const deployment = Type.Object({ function: spec }, closed);

const limits = {
  max_batching_size: Type.Optional(nullable(Type.Integer({ minimum: 1 }))),
  max_buffer_duration: Type.Optional(nullable(Type.Integer({ minimum: 0 }))),
  max_batch_bytes: Type.Optional(Type.Integer({ minimum: 1024 })),
};
export const functionPatch = Type.Object(limits, { ...closed, minProperties: 1 });

export const functionView = Type.Object({
  name: Type.String(),
  version: Type.String(),
  versions: Type.Array(Type.Object({ version: Type.String(), created_at: instant })),
  paused: Type.Boolean(),
  spec,
  queue: Type.Object({
    waiting_calls: count,
    waiting_rows: count,
    sealed_rows: count,
    oldest_ms: nullable(Type.Number()),
  }),
  replicas: Type.Array(
    Type.Object({
      version: Type.String(),
      ready: count,
      starting: count,
      failed: count,
      reason: nullable(Type.String()),
      ignored: Type.Array(Type.String()),
    }),
  ),
  created_at: instant,
  updated_at: instant,
});
export const functionList = Type.Object({ functions: Type.Array(functionView) });
export const purged = Type.Object({ calls: count, rows: count });
export const repinRequest = Type.Object(
  { from: Type.String({ minLength: 1 }), to: Type.String({ minLength: 1 }) },
  closed,
);
export const repinned = Type.Object({ calls: count });
export const logs = Type.Object({
  lines: Type.Array(
    Type.Object({
      at: instant,
      replica: Type.Integer(),
      stream: Type.Enum(['stdout', 'stderr']),
      text: Type.String(),
    }),
  ),
});

export const keyRequest = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 128 }),
    scopes: Type.Array(Type.Enum([...SCOPE_NAMES]), { minItems: 1, maxItems: 3 }),
  },
  closed,
);
export const key = Type.Object({
  id: Type.String(),
  name: Type.String(),
  scopes: Type.Array(Type.Enum([...SCOPE_NAMES])),
  prefix: Type.String(),
  created_at: instant,
  secret: Type.Optional(Type.String()),
});
export const keyList = Type.Object({ keys: Type.Array(key) });

export const server = Type.Object({
  version: Type.String(),
  store: Type.String(),
  durability: Type.String(),
  generation: Type.String(),
  usage: Type.Record(Type.String(), Type.Unknown()),
});
export const health = Type.Object({ status: Type.String() });

const seconds = (maximum: number, description: string) =>
  Type.Optional(Type.Number({ minimum: 0, maximum, description }));

const wait = seconds(WAIT_SECONDS_MAX, 'Seconds to wait for the end of the call.');
export const waitQuery = Type.Object({ wait }, closed);
export const resultQuery = Type.Object(
  {
    wait,
    partial: Type.Optional(Type.Boolean({ description: 'Finished rows of an unfinished call as well.' })),
  },
  closed,
);
export const listQuery = Type.Object(
  {
    function: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    status: Type.Optional(Type.Enum([...STATUS_NAMES])),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
    cursor: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  },
  closed,
);
export const logsQuery = Type.Object(
  { limit: Type.Optional(Type.Integer({ minimum: 1, maximum: LOG_LINES_MAX })) },
  closed,
);
export const noQuery = Type.Object({}, closed);

export const nameParams = Type.Object({ name: Type.String() });
export const idParams = Type.Object({ id: Type.String() });

/** A compile error here means that a schema and its type in api.ts have come apart. */
type Same<Schema extends TSchema, Shape> = Shape extends Static<Schema> ? true : never;
export const inStep: readonly [
  Same<typeof call, CallJson>,
  Same<typeof result, Mutable<ResultJson>>,
  Same<typeof functionView, Mutable<FunctionJson>>,
  Same<typeof key, Mutable<KeyJson>>,
  Same<typeof server, ServerJson>,
  Same<(typeof logs)['properties']['lines']['items'], LogLineJson>,
] = [true, true, true, true, true, true];

type Mutable<T> = T extends readonly (infer Item)[]
  ? Mutable<Item>[]
  : T extends object
    ? { -readonly [K in keyof T]: Mutable<T[K]> }
    : T;
