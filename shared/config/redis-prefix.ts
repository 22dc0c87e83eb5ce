/** What the keys of a store in Redis may begin with. */
import { SluiceError } from '../errors/sluice-error.ts';

/** Short, since it begins every key, and without braces, which hash tags are made of. */
const PREFIX = /^[\w.:-]{1,32}$/;

/** What to give instead; null where nothing is wrong. */
export const prefixFault = (prefix: string): string | null => {
  if (!PREFIX.test(prefix)) return 'give at most 32 letters, digits and ._:-';
  // The keys of the function 12 of the prefix "a" begin with "a:12".
  if (/:\d+$/.test(prefix)) return 'it may not end in a colon and digits; put a letter behind';
  return null;
};

/** @throws SluiceError `invalid_request` */
export const checkPrefix = (prefix: string): void => {
  const fault = prefixFault(prefix);
  if (fault !== null)
    throw new SluiceError('invalid_request', `--redis-prefix is ${JSON.stringify(prefix)}; ${fault}.`, {
      field: 'redisPrefix',
    });
};
