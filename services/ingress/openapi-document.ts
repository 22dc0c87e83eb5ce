/** /openapi.json: made from the route schemas, with what every request may be told besides. */
import swagger from '@fastify/swagger';
import type { FastifyInstance, FastifySchema } from 'fastify';
import { Type } from 'typebox';
import { type HeaderSchemas, REQUEST_ID } from '../../shared/wire/header-schemas.ts';
import { problem } from '../../shared/wire/schemas.ts';
import { REPOSITORY_INDEX } from './oip/rest-routes.ts';

export const addDocumentation = async (app: FastifyInstance, version: string): Promise<void> => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        ...{ title: 'Sluice', version },
        description:
          'An async batching function queue: rows in, full batches to workers, answers back in order.',
      },
      components: {
        securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
        headers: { [ID]: { description: DESCRIPTION, schema: ID_SCHEMA as never } },
      },
    },
    hideUntagged: true,
    // Headers are described here and checked by the routes, in words of their own.
    transform: ({ schema, url, route }) => ({ schema: withHeaders(schema, route.config?.takes), url }),
    transformObject: (document) => complete(document as OpenapiDocument),
  });
};

const ID = 'x-request-id';
const { description: DESCRIPTION = '', ...ID_SCHEMA } = { ...REQUEST_ID };

/** Any value is taken. */
const ID_PARAMETER = {
  ...{ in: 'header', name: ID, required: false, schema: { type: 'string' } },
  description:
    'A name for the request, of letters, digits and `_.:-`, 64 at most; another is as if there were none.',
};

const withHeaders = (schema: FastifySchema, takes: HeaderSchemas | undefined): FastifySchema =>
  takes === undefined ? schema : { ...schema, headers: Type.Object({ ...takes }) };

type Response = { headers?: Record<string, object> };
type Operation = {
  readonly requestBody?: { required: boolean };
  parameters?: object[];
  readonly responses: Record<string, Response>;
};
type OpenapiDocument = {
  readonly openapiObject: { readonly paths: Record<string, Record<string, Operation>> };
};

/** Told before anybody knows which route is meant, so always as a problem document. */
const BEFORE_ROUTES: Readonly<Record<number, string>> = {
  408: 'The request did not arrive in time.',
  431: 'The request headers are larger than 16 KiB.',
};

const complete = ({ openapiObject }: OpenapiDocument) => {
  const { paths } = openapiObject;
  // The generator takes every body for one that must be there; clients of the protocol send none here.
  paths[REPOSITORY_INDEX]!.post!.requestBody!.required = false;
  for (const operation of Object.values(paths).flatMap((path) => Object.values(path))) {
    operation.parameters = [...(operation.parameters ?? []), ID_PARAMETER];
    for (const [status, description] of Object.entries(BEFORE_ROUTES))
      Object.assign(operation.responses, {
        [status]: { description, content: { 'application/problem+json': { schema: problem } } },
      });
    for (const response of Object.values(operation.responses))
      response.headers = { ...response.headers, [ID]: { $ref: `#/components/headers/${ID}` } };
  }
  return openapiObject;
};
