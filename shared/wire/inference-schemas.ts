/** The list of a group's inference files, as JSON Schemas and as types. */
import { type Static, Type } from 'typebox';

/** Files of one page. */
export const INFERENCE_FILES_MAX = 1000;

const instant = Type.String({ format: 'date-time' });
const count = Type.Integer({ minimum: 0 });
const closed = { additionalProperties: false } as const;
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));

export const inferenceFile = Type.Object({
  digest: Type.String({ description: 'Of the Parquet file, an artifact.' }),
  href: Type.String({ description: 'Where its bytes are read.' }),
  bytes: count,
  rows: count,
  from: Type.String({ format: 'date-time', description: 'The oldest row.' }),
  until: Type.String({ format: 'date-time', description: 'The newest row; it may be the oldest as well.' }),
  model: Type.String(),
  model_version: Type.Integer({ minimum: 1 }),
  function_version: Type.String(),
  expires_at: instant,
});
export type InferenceFileJson = Readonly<Static<typeof inferenceFile>>;

export const inferenceFileList = Type.Object({
  inference_files: Type.Array(inferenceFile),
  next: Type.Union([Type.String(), Type.Null()], {
    description: 'Give it as `after` for the next page; null: that was the last.',
  }),
});
export type InferenceFilesJson = {
  readonly inference_files: readonly InferenceFileJson[];
  readonly next: string | null;
};

export const inferenceFilesQuery = Type.Object(
  {
    from: time('Files with rows at this time or later.'),
    until: time('Files with rows before this time.'),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: INFERENCE_FILES_MAX })),
    after: Type.Optional(
      Type.String({
        pattern: '^\\d{13}-[0-9a-f-]{36}$',
        description: '`next` of the page before.',
      }),
    ),
  },
  closed,
);
