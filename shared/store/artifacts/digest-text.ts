/** `sha256:` and 64 lower-case hex digits: one text for one digest, so that it can be a file's name. */
import type { Digest } from '../../domain/model.ts';
import { SluiceError } from '../../errors/sluice-error.ts';

const FORM = /^sha256:([0-9a-f]{64})$/;

/** The hex digits alone. @throws SluiceError `invalid_request` where it is no digest */
export const hexOf = (digest: Digest): string => {
  const hex = FORM.exec(digest)?.[1];
  if (hex !== undefined) return hex;
  throw new SluiceError(
    'invalid_request',
    `digest is ${JSON.stringify(digest.slice(0, 100))}; it takes "sha256:" and 64 lower-case hex digits.`,
    { field: 'digest' },
  );
};

export const digestOfHex = (hex: string): Digest => `sha256:${hex}`;

export const isHex = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);
