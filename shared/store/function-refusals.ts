/** What both stores refuse of functions and their versions, in the same words. */
import type { FunctionSpec } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';

export const noFunction = (name: string): SluiceError =>
  new SluiceError('function_not_found', `There is no function "${name}".`);

export const noVersion = (name: string, digest: string): SluiceError =>
  new SluiceError('function_not_found', `Function "${name}" has no version "${digest}".`);

export const functionBusy = (name: string, calls: number): SluiceError =>
  new SluiceError(
    'function_busy',
    `Function "${name}" has ${calls} unfinished ${calls === 1 ? 'call' : 'calls'}; purge it or wait until ${calls === 1 ? 'it is' : 'they are'} finished.`,
  );

/** A staged version may be dropped, and then no call may belong to it. */
export const targetStaged = (name: string, to: string): SluiceError =>
  new SluiceError(
    'invalid_request',
    `The version "${to}" of "${name}" is staged and may still be dropped; repin when it is current.`,
    { field: 'to' },
  );

type Named = { readonly digest: string; readonly spec: FunctionSpec };

/** @throws SluiceError `schemas_differ` */
export const checkSchemas = (name: string, from: Named, to: Named): void => {
  const schemas = ({ spec: { inputMode, inputs, output } }: Named): string =>
    JSON.stringify([inputMode, inputs, output]);
  if (schemas(from) === schemas(to)) return;
  throw new SluiceError(
    'schemas_differ',
    `The versions "${from.digest}" and "${to.digest}" of "${name}" have different inputs or outputs; repin only between versions with the same schemas.`,
  );
};
