/** The documented shape of a route: its success answers, and the problem documents that it may answer. */
import { type TSchema, Type } from 'typebox';
import { ARROW_STREAM } from '../../shared/wire/api.ts';
import { type HeaderSchemas, refusalHeaders, resultHeaders } from '../../shared/wire/header-schemas.ts';
import { problem, result, STATUS_NAMES } from '../../shared/wire/schemas.ts';

const PROBLEMS: Readonly<Record<number, string>> = {
  400: 'The request is not valid.',
  401: 'No valid API key.',
  403: 'The key lacks a scope.',
  404: 'Nothing is here.',
  406: 'No such representation.',
  409: 'Not in this state.',
  410: 'Past its retention.',
  412: 'The bytes are not those that If-Match names.',
  413: 'The body is too large.',
  415: 'The content type is not supported.',
  416: 'The range lies outside of the bytes.',
  422: 'Understood, and refused.',
  429: 'The queue is full.',
  500: "The server failed, or its store's data was lost.",
  503: 'The server is shutting down, or its store is not reached.',
  507: "The disk limit is reached, or the store's memory is nearly full.",
};

type Answer = {
  readonly description: string;
  readonly type?: 'null';
  readonly content?: Readonly<Record<string, { readonly schema: TSchema }>>;
  readonly headers?: HeaderSchemas;
};

/** What is said of bodies before a route looks at them; also where it needs none, and one comes. */
export const BODY_STATUSES: readonly number[] = [413, 415, 429];

/** What a change may be refused with besides: where the disk or the memory is full, nothing is written. */
export const WRITE_STATUSES: readonly number[] = [...BODY_STATUSES, 507];

export const writeStatuses = (method: string): readonly number[] => (method === 'GET' ? [] : WRITE_STATUSES);

/** Besides those that each route has. */
export const problems = (...statuses: readonly number[]): Record<number, Answer> =>
  Object.fromEntries(
    [...statuses, 400, 401, 403, 500, 503].map((status) => [
      status,
      {
        description: PROBLEMS[status]!,
        headers: refusalHeaders(status),
        content: { 'application/problem+json': { schema: problem } },
      },
    ]),
  );

export const answer = (description: string, schema: TSchema, headers: HeaderSchemas = {}): Answer => ({
  description,
  headers,
  content: { 'application/json': { schema } },
});

/** Without a body: to the generator of the document a response without a schema is one of any JSON. */
export const empty = (description: string, headers: HeaderSchemas = {}): Answer => ({
  description,
  headers,
  type: 'null',
});

export const resultAnswer: Answer = {
  description: 'The result in row order, in the form that Accept asks for.',
  headers: resultHeaders(STATUS_NAMES),
  content: {
    'application/json': { schema: result },
    [ARROW_STREAM]: {
      schema: Type.String({
        format: 'binary',
        description: 'Column `result`, and `error` where rows are not ok.',
      }),
    },
  },
};

export const secured = [{ key: [] }];
