/** API keys: `sk_` and 32 random bytes; only their SHA-256 is stored. */
import { hash, randomBytes } from 'node:crypto';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { ApiKey, Keys, Scope } from '../../shared/store/ports/keys.ts';

const PREFIX_CHARACTERS = 8;

export const secretHash = (secret: string): string => hash('sha256', secret, 'hex');

/**
 * Keys without one that holds `admin` would leave nobody who may make or revoke any. The very last key may go: on loopback
 * a server does without.
 * @throws SluiceError `invalid_request`
 */
export const checkNotLast = async (keys: Keys, id: number): Promise<void> => {
  const all = await keys.list();
  const isAdmin = ({ scopes }: ApiKey): boolean => scopes.includes('admin');
  const revoked = all.find((key) => key.id === id);
  if (all.length === 1 || revoked === undefined || !isAdmin(revoked)) return;
  if (all.filter(isAdmin).length > 1) return;
  throw new SluiceError(
    'invalid_request',
    `k${id} is the last key with the scope admin, and there are others; make another with admin, or revoke those first.`,
    { field: 'id' },
  );
};

/**
 * Makes a key.
 * The first key must hold `admin`: from then on the server takes keys only, and nobody else could make more.
 * @throws SluiceError `invalid_request`
 */
export const createApiKey = async (
  keys: Keys,
  name: string,
  scopes: readonly Scope[],
): Promise<{ readonly key: ApiKey; readonly secret: string }> => {
  const distinct = [...new Set(scopes)];
  if (!distinct.includes('admin') && (await keys.list()).length === 0) {
    throw new SluiceError(
      'invalid_request',
      `scopes is ${JSON.stringify(scopes)}; the first key needs the scope admin, or nobody could make another.`,
      { field: 'scopes' },
    );
  }
  const secret = `sk_${randomBytes(32).toString('base64url')}`;
  const key = await keys.create({
    now: Date.now(),
    name,
    scopes: distinct,
    secretHash: secretHash(secret),
    prefix: secret.slice(0, PREFIX_CHARACTERS),
  });
  return { key, secret };
};
