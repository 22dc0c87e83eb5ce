/**
 * Bodies whose schema describes them, and whose options are checked by name in the service: there the refusal names the
 * option, the value and the way out, and an image's thousands of files are looked at once.
 */
import type { FastifyInstance } from 'fastify';
import { SluiceError } from '../../shared/errors/sluice-error.ts';

type Compiler = NonNullable<FastifyInstance['validatorCompiler']>;

/** Checks parameters and queries as everywhere; of the body only that there is one. */
export const describedBody =
  (app: FastifyInstance): Compiler =>
  (route) => {
    if (route.httpPart !== 'body') return (app.validatorCompiler as Compiler)(route);
    return (body: unknown) =>
      body === undefined || body === null
        ? { error: new SluiceError('invalid_json', 'The body is empty; send one JSON object.') }
        : { value: body };
  };
