/** Checks parameters, queries and small bodies against the route schemas with typebox; answers name field, value and rule. */
import type { FastifyInstance } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { SluiceError } from '../../shared/errors/sluice-error.ts';

type Fault = {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: object;
  readonly message: string;
};

const PLACES: Readonly<Record<string, string>> = { querystring: 'query parameter', params: 'path parameter' };

const valueAt = (value: unknown, path: string): unknown =>
  path
    .split('/')
    .slice(1)
    .reduce<unknown>((at, key) => (at as Record<string, unknown> | null)?.[key], value);

const describe = (fault: Fault, value: unknown, httpPart: string): SluiceError => {
  const place = PLACES[httpPart] ?? 'member';
  const params = fault.params as Record<string, unknown>;
  const names = params.additionalProperties ?? params.requiredProperties;
  const at = fault.instancePath.slice(1).replaceAll('/', '.');
  if (Array.isArray(names)) {
    const field = [at, String(names[0])].filter(Boolean).join('.');
    const what = fault.keyword === 'required' ? 'is missing' : `is no ${place} of this route`;
    return new SluiceError('invalid_request', `${field} ${what}.`, { field });
  }
  const shown = JSON.stringify(valueAt(value, fault.instancePath))?.slice(0, 80) ?? 'missing';
  const allowed = Array.isArray(params.allowedValues) ? `: ${params.allowedValues.join(', ')}` : '';
  const field = at === '' ? httpPart : at;
  return new SluiceError('invalid_request', `${field} is ${shown}; it ${fault.message}${allowed}.`, {
    field,
  });
};

/** `boolean` only repeats what `additionalProperties` says, `anyOf` what its branches say. */
const clearest = (faults: readonly Fault[]): Fault =>
  faults.find(({ keyword }) => keyword === 'additionalProperties') ??
  faults.find(({ keyword }) => keyword !== 'boolean' && keyword !== 'anyOf') ??
  faults[0]!;

/** The texts of a query as the numbers and flags that the schema asks for; what is none stays a text, and fails. */
const converted = (schema: TSchema, query: object): Record<string, unknown> => {
  const { properties = {} } = schema as { properties?: Readonly<Record<string, { readonly type?: string }>> };
  const entries = Object.entries(query).map(([name, text]) => {
    const type = Object.hasOwn(properties, name) ? properties[name]!.type : undefined;
    if (type === 'boolean' && (text === 'true' || text === 'false')) return [name, text === 'true'];
    const isNumber =
      (type === 'number' || type === 'integer') && /^-?\d{1,15}(\.\d{1,15})?$/.test(String(text));
    return [name, isNumber ? Number(text) : text];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
};

export const useTypebox = (app: FastifyInstance): void => {
  app.setValidatorCompiler<TSchema>(({ schema, httpPart = 'body' }) => {
    const check = Compile(schema);
    // Texts become numbers where they come as texts; a body says what it means.
    const isText = httpPart !== 'body';
    return (data: unknown) => {
      const value = isText ? converted(schema, (data ?? {}) as object) : data;
      if (check.Check(value)) return { value };
      if (value === undefined || value === null) {
        return { error: new SluiceError('invalid_json', 'The body is empty; send one JSON object.') };
      }
      return { error: describe(clearest(check.Errors(value) as Fault[]), value, httpPart) };
    };
  });
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  // fastify wraps what a validator returns in an error of its own; ours has all that the answer needs.
  app.setSchemaErrorFormatter((errors) => errors as unknown as Error);
};
