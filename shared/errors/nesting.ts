import { SluiceError } from './sluice-error.ts';

/** V8 parses JSON of any depth, and walks and writes it only so deep as its stack reaches. */
export const isTooDeep = (error: unknown): error is RangeError => error instanceof RangeError;

/** @throws SluiceError `invalid_json` where what `work` walks nests too deep; `what` names it: `The body` */
export const withinStack = <T>(what: string, work: () => T): T => {
  try {
    return work();
  } catch (error) {
    if (isTooDeep(error)) throw new SluiceError('invalid_json', `${what} nests too deep.`);
    throw error;
  }
};
