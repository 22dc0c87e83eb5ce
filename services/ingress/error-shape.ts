/** The shape of an error by the path that was asked for, for what is refused before a route is found, or where there is none. */
import type { SluiceError } from '../../shared/errors/sluice-error.ts';
import { isOipPath, oipProblem } from './oip/oip-error.ts';
import { isOpenaiPath, openaiProblem } from './openai/openai-answer.ts';
import { type Problem, problemOf } from './problem.ts';

/** @param status other than the catalogue's, where HTTP has a closer one */
export const shapedProblem = (url: string, error: SluiceError, status?: number): Problem => {
  if (isOipPath(url)) return oipProblem(error, status);
  return isOpenaiPath(url) ? openaiProblem(error, status) : problemOf(error, status);
};
