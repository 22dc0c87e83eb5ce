/** The function that a standard protocol's `model` names. */
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { functionNameOf } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Catalogue } from './catalogue.ts';

/**
 * The function of this name, or that of the scaling group of this name.
 * @param field what the protocol calls the name, for the error
 * @throws SluiceError `function_not_found`
 */
export const modelFunction = async (
  catalogue: Pick<Catalogue, 'known' | 'refresh'>,
  name: string,
  field = 'model',
): Promise<FunctionRecord> => {
  const found =
    catalogue.known(name) ??
    catalogue.known(functionNameOf(name)) ??
    (await catalogue.refresh(name)) ??
    (await catalogue.refresh(functionNameOf(name)));
  if (found !== undefined) return found;
  const shown = JSON.stringify(name.slice(0, 128));
  throw new SluiceError('function_not_found', `There is no function or scaling group ${shown}.`, {
    field,
  });
};
