/** catalog/models.json: curated models, read with a schema. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { FieldJson } from '../../sdk/index.ts';
import { CommandError, UsageError } from '../failure.ts';

const closed = { additionalProperties: false } as const;
const digest = Type.String({ pattern: '^sha256:[0-9a-f]{64}$' });
const line = Type.String({ minLength: 1, maxLength: 200 });
const relativePath = Type.String({ pattern: '^[^/\\\\].*[^/]$' });
const fields = Type.Array(
  Type.Object({ name: line, type: Type.Unsafe<FieldJson['type']>({}), nullable: Type.Boolean() }, closed),
  { minItems: 1, maxItems: 100 },
);

const wheel = Type.Object(
  {
    name: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$' }),
    version: Type.String({ pattern: '^[0-9][A-Za-z0-9.+-]*$' }),
    /** Of the wheel. */
    digest,
    /** Path in the model version → path in the wheel. */
    files: Type.Record(relativePath, relativePath),
  },
  closed,
);

const variant = Type.Object(
  {
    description: line,
    package: Type.Optional(wheel),
    image: Type.Optional(Type.Object({ reference: line, digest }, closed)),
    /** Path in the model version → path beside models.json. */
    source: Type.Record(relativePath, Type.String()),
    handler: Type.Object({ file: relativePath, attribute: line }, closed),
    dependencies: Type.Array(line, { maxItems: 100 }),
    resources: Type.Object(
      {
        cpu: Type.Union([Type.Number({ exclusiveMinimum: 0 }), Type.Null()]),
        memory_bytes: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]),
        gpu: Type.Union([line, Type.Null()]),
      },
      closed,
    ),
    env: Type.Record(line, Type.String()),
    batching: Type.Object(
      {
        max_batching_size: Type.Integer({ minimum: 1 }),
        max_buffer_duration: Type.Integer({ minimum: 0 }),
      },
      closed,
    ),
  },
  closed,
);

const curatedModel = Type.Object(
  {
    name: Type.String({ pattern: '^[a-z][a-z0-9.-]{0,63}$' }),
    description: line,
    licence: line,
    homepage: Type.String({ pattern: '^https://' }),
    inputs: fields,
    outputs: fields,
    /** What OpenAI's API takes it for; left out: not served there. */
    task: Type.Optional(Type.Union([Type.Literal('embedding'), Type.Literal('completion')])),
    variants: Type.Object({ cpu: Type.Optional(variant), gpu: Type.Optional(variant) }, closed),
  },
  closed,
);

export const curatedCatalog = Type.Object({ models: Type.Array(curatedModel, { maxItems: 1000 }) }, closed);

export type CuratedModel = Static<typeof curatedModel>;
export type CuratedVariant = Static<typeof variant>;
export type VariantName = keyof CuratedModel['variants'];

export const CATALOG_FOLDER = path.resolve(import.meta.dirname, '../../catalog');

/** @throws CommandError naming the member that is wrong */
export const readCatalog = (file = path.join(CATALOG_FOLDER, 'models.json')): readonly CuratedModel[] => {
  const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
  const [problem] = Value.Errors(curatedCatalog, value);
  if (problem) throw new CommandError(`${file}: ${problem.instancePath || '/'} ${problem.message}`);
  return (value as Static<typeof curatedCatalog>).models;
};

/** @throws UsageError naming what there is */
export const curatedVariant = (
  name: string,
  wanted: VariantName,
): { model: CuratedModel; variant: CuratedVariant } => {
  const models = readCatalog();
  const model = models.find((one) => one.name === name);
  if (!model)
    throw new UsageError(
      `"${name}" is not in the catalog, which has ${models.map((one) => one.name).join(', ')}.`,
    );
  const found = model.variants[wanted];
  if (found) return { model, variant: found };
  const other = wanted === 'gpu' ? 'leave out --gpu' : 'give --gpu';
  throw new UsageError(`${name} has no variant for a ${wanted.toUpperCase()}; ${other}.`);
};
