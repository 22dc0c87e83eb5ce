/** Drift figures as JSON Schemas. */
import { type Static, type TSchema, Type } from 'typebox';
import { DRIFT_WINDOW_MS_MAX, DRIFT_WINDOW_MS_MIN } from './drift.ts';
import type { DriftJson, DriftRequestJson } from './inference-api.ts';

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const closed = { additionalProperties: false } as const;
const instant = Type.String({ format: 'date-time' });
const count = Type.Integer({ minimum: 0 });
const range = Type.Object({ from: instant, until: instant }, closed);
const window = Type.Integer({
  minimum: DRIFT_WINDOW_MS_MIN,
  maximum: DRIFT_WINDOW_MS_MAX,
  description: 'How long the compared window is; it ends now.',
});

export const driftRequest = Type.Object(
  { reference: range, window_ms: window },
  { ...closed, description: 'The reference has passed, and has sampled rows.' },
);

const column = Type.Object({
  column: Type.String({ description: '`input.NAME`, `output`, or `output.NAME`.' }),
  psi: nullable(
    Type.Number({ minimum: 0, description: 'Population stability index; null: a side has no rows.' }),
  ),
  ks: nullable(
    Type.Number({
      ...{ minimum: 0, maximum: 1 },
      description: 'Two-sample Kolmogorov–Smirnov statistic; null: the column has no order.',
    }),
  ),
});

export const drift = Type.Object({
  reference: range,
  window_ms: window,
  figures: nullable(
    Type.Object({
      at: instant,
      reference_rows: count,
      window_rows: count,
      columns: Type.Array(column),
      reason: nullable(Type.String({ description: 'Why there are none.' })),
    }),
  ),
  due_at: Type.String({
    format: 'date-time',
    description: 'When figures are computed next; every minute, later where many groups are compared.',
  }),
});

/** A compile error here means that a schema and its type in inference-api.ts have come apart. */
type Same<Schema extends TSchema, Shape> = Shape extends Static<Schema> ? true : never;
type Mutable<T> = { -readonly [K in keyof T]: T[K] extends object | null ? Mutable<T[K]> : T[K] };
export const driftInStep: readonly [
  Same<typeof driftRequest, Mutable<DriftRequestJson>>,
  Same<typeof drift, Mutable<DriftJson>>,
] = [true, true];
