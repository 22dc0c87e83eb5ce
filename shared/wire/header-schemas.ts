/** JSON Schemas of the headers that requests and answers carry beside those of HTTP itself. Bounds are those that the code checks by. */
import { type TSchema, Type } from 'typebox';
import {
  DEADLINE_MS_MAX,
  IDEMPOTENCY_KEY_CHARACTERS_MAX,
  LANE_CHARACTERS_MAX,
  METADATA_BYTES_MAX,
  PRIORITY_MAX,
  WAIT_SECONDS_MAX,
} from './schemas.ts';

export type HeaderSchemas = Readonly<Record<string, TSchema>>;

const milliseconds = (description: string) => Type.Number({ minimum: 0, description });
const bytes = (description: string) => Type.Integer({ minimum: 0, description });
const etags = (description: string) => Type.Optional(Type.String({ description }));

export const REQUEST_ID = Type.String({
  pattern: '^[\\w.:-]{1,64}$',
  description:
    "The request's name, in the answer and in the server's log: the caller's, where it is of this form.",
});

export const idempotencyHeaders: HeaderSchemas = {
  'Idempotency-Key': Type.Optional(
    Type.String({
      ...{ minLength: 1, maxLength: IDEMPOTENCY_KEY_CHARACTERS_MAX, pattern: '^[\\x20-\\x7e]+$' },
      description: 'The same key with the same body is answered with what the first request made.',
    }),
  ),
};

/** Of every request that becomes a call. */
export const callHeaders: HeaderSchemas = {
  ...idempotencyHeaders,
  'Sluice-Priority': Type.Optional(
    Type.Integer({
      ...{ minimum: -PRIORITY_MAX, maximum: PRIORITY_MAX, default: 0 },
      description: 'Higher goes first.',
    }),
  ),
  'Sluice-Lane': Type.Optional(
    Type.String({
      maxLength: LANE_CHARACTERS_MAX,
      description: "The fairness key of the call, in UTF-8; the API key's name unless it is given.",
    }),
  ),
  'Sluice-Deadline-Ms': Type.Optional(
    Type.Number({
      ...{ exclusiveMinimum: 0, maximum: DEADLINE_MS_MAX },
      description: 'Milliseconds from now after which no row begins.',
    }),
  ),
  'Sluice-Metadata': Type.Optional(
    Type.String({
      contentMediaType: 'application/json',
      description: `A JSON object of strings, of at most ${METADATA_BYTES_MAX} bytes, that is kept with the call.`,
    }),
  ),
  traceparent: Type.Optional(
    Type.String({ description: 'W3C trace context; one that is not valid is as if there were none.' }),
  ),
};

export const waitHeaders: HeaderSchemas = {
  Prefer: Type.Optional(
    Type.String({
      examples: ['wait=30'],
      description: `wait=SECONDS, from 0 to ${WAIT_SECONDS_MAX}: the result, if the call finishes in that time. Other preferences are ignored.`,
    }),
  ),
};

/** Of bytes that have a digest. */
export const artifactHeaders: HeaderSchemas = {
  Range: Type.Optional(
    Type.String({
      examples: ['bytes=0-1023'],
      description: 'bytes=FROM-TO, bytes=FROM- or bytes=-COUNT; anything else is ignored.',
    }),
  ),
  'If-Match': etags('Entity tags, one of which the bytes must have, or *.'),
  'If-None-Match': etags('Entity tags, none of which the bytes may have, or *.'),
  'If-Range': etags('The entity tag that the bytes must have for Range to count.'),
};

export const INFERENCE_JSON_BYTES: HeaderSchemas = {
  'Inference-Header-Content-Length': Type.Optional(bytes('Bytes of JSON in front of the binary tensors.')),
};

export const LOCATION: HeaderSchemas = {
  location: Type.String({ format: 'uri-reference', description: 'Where what was made is.' }),
};

export const timesHeaders: HeaderSchemas = {
  'x-call-id': Type.String(),
  'x-queue-ms': milliseconds('Milliseconds from the arrival to the first run; not there where nothing ran.'),
  'x-handler-ms': milliseconds('Milliseconds in handlers.'),
};

export const resultHeaders = (statuses: readonly string[]): HeaderSchemas => ({
  ...timesHeaders,
  'x-call-status': Type.Enum([...statuses]),
  'x-rows': Type.Integer({ minimum: 0, description: 'Rows of the call.' }),
  'x-rows-failed': Type.Integer({ minimum: 0, description: 'Rows that are not ok.' }),
});

export const uploadHeaders: HeaderSchemas = {
  'upload-offset': bytes('Bytes that are there.'),
  'upload-length': bytes('Bytes of the whole; not there where nobody has said it yet.'),
  'upload-complete': Type.Enum(['?1', '?0'], { description: '?1: all of them are there.' }),
};

export const ETAG: HeaderSchemas = {
  etag: Type.String({ description: 'The digest, in quotes.' }),
};
export const bytesHeaders: HeaderSchemas = { ...ETAG, 'accept-ranges': Type.Literal('bytes') };
export const CONTENT_RANGE: HeaderSchemas = {
  'content-range': Type.String({
    description: 'bytes FROM-TO/ALL, or bytes */ALL where the range lies outside.',
  }),
};

/** What a refusal of a status carries. */
export const refusalHeaders = (status: number): HeaderSchemas => {
  if (status === 401) return { 'www-authenticate': Type.String() };
  if (status === 416) return CONTENT_RANGE;
  if (status !== 429 && status !== 503 && status !== 507) return {};
  return {
    'retry-after': Type.Integer({ minimum: 0, description: 'Seconds after which to send it again.' }),
  };
};
