/** The keys port on Redis (scripts/api-keys.lua, scripts/api-key-revoke.lua). */
import type { ApiKey, Keys } from '../ports/keys.ts';
import type { QueueContext } from './queue-context.ts';
import { runStoreScript } from './store-context.ts';

const KEYS = ['api-key-count', 'api-keys', 'api-key-hashes'] as const;

const toKey = (id: number, text: Buffer): ApiKey => ({
  id,
  ...(JSON.parse(String(text)) as Omit<ApiKey, 'id'>),
});

export const makeKeys = (context: QueueContext): Keys => ({
  create: async ({ now, name, scopes, secretHash, prefix }) => {
    const key = { name, scopes, prefix, createdAt: now };
    const args = ['create', JSON.stringify(key), secretHash];
    const id = await runStoreScript<number>(context, 'api-keys', KEYS, args);
    return { id, ...key };
  },
  list: async () => {
    const found = await runStoreScript<(number | Buffer)[]>(context, 'api-keys', KEYS, ['list']);
    const keys: ApiKey[] = [];
    for (let at = 0; at < found.length; at += 2)
      keys.push(toKey(found[at] as number, found[at + 1] as Buffer));
    return keys.sort((a, b) => a.id - b.id);
  },
  revoke: async (id) =>
    (await runStoreScript<number>(context, 'api-key-revoke', ['api-keys', 'api-key-hashes'], [id])) === 1,
  find: async (secretHash) => {
    const found = await runStoreScript<[number, Buffer] | null>(context, 'api-keys', KEYS, [
      'find',
      secretHash,
    ]);
    return found === null ? undefined : toKey(...found);
  },
});
