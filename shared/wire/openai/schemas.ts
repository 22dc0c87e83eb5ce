/** JSON Schemas of the routes of OpenAI's API: what they take, and what they answer. */
import { type TSchema, Type } from 'typebox';

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const optional = <T extends TSchema>(schema: T) => Type.Optional(nullable(schema));
const closed = { additionalProperties: false } as const;
const count = Type.Integer({ minimum: 0 });

export const openaiFailure = Type.Object({
  error: Type.Object({
    message: Type.String(),
    type: Type.String(),
    param: nullable(Type.String()),
    code: nullable(Type.String()),
  }),
});

const counted = Type.Enum(['exact', 'estimated'], {
  description: 'exact for token lists; else a token for each four bytes of UTF-8.',
});
const tokens = Type.Array(Type.Integer(), { minItems: 1 });
const text = Type.String({ minLength: 1 });

export const embeddingRequest = Type.Object(
  {
    model: Type.String({ description: "A function's name, or that of a scaling group." }),
    input: Type.Union([
      text,
      Type.Array(text, { minItems: 1, maxItems: 2048 }),
      tokens,
      Type.Array(tokens, { minItems: 1, maxItems: 2048 }),
    ]),
    encoding_format: optional(Type.Enum(['float', 'base64'])),
    dimensions: optional(Type.Integer({ minimum: 1 })),
    user: optional(Type.String({ maxLength: 256 })),
  },
  closed,
);
export const embeddingList = Type.Object({
  object: Type.Literal('list'),
  data: Type.Array(
    Type.Object({
      object: Type.Literal('embedding'),
      index: count,
      embedding: Type.Union([
        Type.Array(Type.Number()),
        Type.String({ description: 'base64 of float32, little-endian' }),
      ]),
    }),
  ),
  model: Type.String(),
  usage: Type.Object({ prompt_tokens: count, total_tokens: count, counted }),
});

const parameters = {
  model: Type.String({ description: "A function's name, or that of a scaling group." }),
  user: optional(Type.String({ maxLength: 256 })),
  stream: optional(Type.Literal(false)),
  max_tokens: optional(Type.Unknown()),
  temperature: optional(Type.Unknown()),
};
export const completionRequest = Type.Object({
  prompt: Type.Union([Type.String(), Type.Array(Type.String()), tokens, Type.Array(tokens)]),
  ...parameters,
});
export const chatRequest = Type.Object({
  messages: Type.Array(
    Type.Object({
      role: Type.Enum(['system', 'developer', 'user', 'assistant']),
      content: Type.Union([
        Type.String(),
        Type.Array(Type.Object({ type: Type.Literal('text'), text: Type.String() })),
      ]),
    }),
    { minItems: 1 },
  ),
  ...parameters,
});
const usage = Type.Object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  counted,
});
const choiceEnd = { index: count, logprobs: Type.Null(), finish_reason: Type.Literal('stop') };
const completionOf = (object: string, choice: TSchema) =>
  Type.Object({
    id: Type.String(),
    object: Type.Literal(object),
    created: count,
    model: Type.String(),
    choices: Type.Array(choice),
    usage,
  });
export const completion = completionOf('text_completion', Type.Object({ ...choiceEnd, text: Type.String() }));
export const chatCompletion = completionOf(
  'chat.completion',
  Type.Object({
    ...choiceEnd,
    message: Type.Object({
      role: Type.Literal('assistant'),
      content: Type.String(),
      refusal: Type.Null(),
    }),
  }),
);

/** What OpenAI's clients read of a model; a registry's model has these members beside its own. */
export const openaiModel = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: count,
  owned_by: Type.String(),
  task: Type.Optional(nullable(Type.Enum(['embedding', 'completion']))),
});

export const openaiFile = Type.Object({
  id: Type.String(),
  object: Type.Literal('file'),
  bytes: count,
  created_at: count,
  expires_at: nullable(count),
  filename: Type.String(),
  purpose: Type.Enum(['batch', 'batch_output']),
  status: Type.Literal('processed'),
});
const pageOf = (item: TSchema) =>
  Type.Object({
    object: Type.Literal('list'),
    data: Type.Array(item),
    first_id: nullable(Type.String()),
    last_id: nullable(Type.String()),
    has_more: Type.Boolean(),
  });
export const fileList = pageOf(openaiFile);
export const deletedFile = Type.Object({
  id: Type.String(),
  object: Type.Literal('file'),
  deleted: Type.Literal(true),
});
export const fileUpload = Type.Object({
  file: Type.String({ format: 'binary' }),
  purpose: Type.Literal('batch'),
});
export const FILES_PAGE_MAX = 10_000;
export const BATCHES_PAGE_MAX = 100;
const id = Type.String({ minLength: 1, maxLength: 128 });
export const filesQuery = Type.Object(
  {
    after: Type.Optional(id),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: FILES_PAGE_MAX })),
    order: Type.Optional(Type.Enum(['asc', 'desc'])),
    purpose: Type.Optional(Type.String({ maxLength: 64 })),
  },
  closed,
);
export const batchesQuery = Type.Object(
  {
    after: Type.Optional(id),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: BATCHES_PAGE_MAX })),
  },
  closed,
);

export const BATCH_STATUSES = [
  'validating',
  'failed',
  'in_progress',
  'finalizing',
  'completed',
  'expired',
  'cancelling',
  'cancelled',
] as const;
export type BatchStatus = (typeof BATCH_STATUSES)[number];

const metadata = Type.Record(Type.String({ maxLength: 64 }), Type.String({ maxLength: 512 }), {
  maxProperties: 16,
});
export const batchRequest = Type.Object(
  {
    input_file_id: id,
    endpoint: Type.Enum(['/v1/embeddings', '/v1/completions', '/v1/chat/completions']),
    completion_window: Type.String({
      pattern: '^[1-9]\\d{0,5}[smhd]$',
      description: 'Such as 24h: seconds, minutes, hours or days, 14 days at most.',
    }),
    metadata: optional(metadata),
    output_expires_after: optional(
      Type.Object(
        {
          anchor: Type.Literal('created_at'),
          seconds: Type.Integer({ minimum: 3600, maximum: 2_592_000 }),
        },
        closed,
      ),
    ),
  },
  closed,
);
const instant = nullable(count);
export const batch = Type.Object({
  id: Type.String(),
  object: Type.Literal('batch'),
  endpoint: Type.String(),
  errors: nullable(
    Type.Object({
      object: Type.Literal('list'),
      data: Type.Array(
        Type.Object({
          code: Type.String(),
          line: nullable(count),
          message: Type.String(),
          param: nullable(Type.String()),
        }),
      ),
    }),
  ),
  input_file_id: Type.String(),
  completion_window: Type.String(),
  status: Type.Enum([...BATCH_STATUSES]),
  output_file_id: nullable(Type.String()),
  error_file_id: nullable(Type.String()),
  created_at: count,
  in_progress_at: instant,
  expires_at: instant,
  finalizing_at: instant,
  completed_at: instant,
  failed_at: instant,
  expired_at: instant,
  cancelling_at: instant,
  cancelled_at: instant,
  request_counts: Type.Object({ total: count, completed: count, failed: count }),
  metadata: nullable(metadata),
});
export const batchList = pageOf(batch);
