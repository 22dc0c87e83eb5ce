/**
 * Bodies whose schema describes them, and whose options are checked by name in the service: there the refusal names the
 * option, the value and the way out, and an image's thousands of files are looked at once.
 */
import type { FastifyInstance } from 'fastify';
import { SluiceError } from '../../shared/errors/sluice-error.ts';

/** Of a route that takes no body one may come all the same, but nothing may be in it. */
export const refuseMembers = (app: FastifyInstance): void => {
  app.addHook('onRoute', (route) => {
    const isRead = [route.method].flat().some((method) => method === 'GET' || method === 'HEAD');
    if (isRead || route.schema?.body !== undefined) return;
    route.preHandler = [route.preHandler ?? []].flat().concat(({ body }, _reply, done) => {
      const [name] = Object.keys(body ?? {});
      if (name === undefined) return done();
      const field = name.slice(0, 64);
      done(
        new SluiceError('invalid_request', `${field} is no member of this route; it takes no body.`, {
          field,
        }),
      );
    });
  });
};

type Compiler = NonNullable<FastifyInstance['validatorCompiler']>;

/** Checks parameters and queries as everywhere, and the body not at all: the route does. */
export const ownBody =
  (app: FastifyInstance): Compiler =>
  (route) =>
    route.httpPart === 'body' ? () => true : (app.validatorCompiler as Compiler)(route);

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
