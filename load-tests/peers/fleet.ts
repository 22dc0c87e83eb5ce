/** Sluice on Redis as its users run it: `sluice serve --store redis://… --role …`, a process for each part. */
import { freePort } from '../../test/support/free-port.ts';
import { type Peer, startPeer } from './peer.ts';
import type { RedisPeer } from './redis.ts';
import { type Api, deployFunctions, LAUNCHER } from './sluice.ts';

export type Role = 'ingress' | 'buffer' | 'worker';

export type Fleet = Api & {
  readonly processes: readonly (Peer & { readonly role: Role; readonly url: string })[];
  /** Roots of the process trees, Redis first, by what they are called in notes. */
  readonly parts: Readonly<Record<string, readonly number[]>>;
  readonly stop: () => Promise<void>;
};

const startOne = async (redis: RedisPeer, role: Role, env: Record<string, string>) => {
  const port = await freePort();
  const store = ['--store', redis.url, '--role', role, '--host', '127.0.0.1'];
  const at = [role === 'ingress' ? '--port' : '--health-port', String(port)];
  const command = [process.execPath, LAUNCHER, 'serve', ...store, ...at];
  const peer = await startPeer(`sluice-${role}`, command, {
    port,
    readyPath: '/readyz',
    env: { SLUICE_LOG_LEVEL: 'warn', ...env },
  });
  return { ...peer, role, url: `http://127.0.0.1:${port}` };
};

const partsOf = (redis: RedisPeer, processes: Fleet['processes']): Fleet['parts'] => {
  const parts: Record<string, readonly number[]> = { Redis: [redis.pid] };
  for (const role of ['ingress', 'buffer', 'worker'] as const)
    parts[role] = processes.filter((one) => one.role === role).map(({ pid }) => pid);
  return parts;
};

/** One process for each role named. The functions are deployed; `wanted` of them have a replica in each worker. */
export const startFleet = async (
  redis: RedisPeer,
  roles: readonly Role[],
  wanted: readonly string[],
  env: Record<string, string> = {},
): Promise<Fleet> => {
  const started = await Promise.allSettled(roles.map((role) => startOne(redis, role, env)));
  const processes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const stop = async (): Promise<void> => {
    await Promise.all(processes.map((one) => one.stop()));
  };
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason;
    const { url } = processes.find(({ role }) => role === 'ingress')!;
    await deployFunctions({ url }, wanted, roles.filter((role) => role === 'worker').length);
    return { url, processes, parts: partsOf(redis, processes), stop };
  } catch (error) {
    await stop();
    throw error;
  }
};
