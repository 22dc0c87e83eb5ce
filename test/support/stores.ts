/**
 * The stores that one definition of a suite runs on. Their tests have the same names below `the NAME store`;
 * test/store-parity.test.ts compares them.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterAll, describe } from 'vitest';
import { describeWithRedis, RedisServer } from './redis-servers.ts';
import {
  type Deployment,
  deployTo,
  directoryHome,
  type Home,
  SluiceServer,
  sluice,
  temporaryDirectory,
} from './sluice-process.ts';

export type StoreUnderTest = {
  readonly name: 'embedded' | 'redis';
  readonly makeHome: () => Promise<Home>;
  /** A server as its users have it: one process, or one of each role. The home is removed with it. */
  readonly start: () => Promise<Deployment>;
};

const EMBEDDED: StoreUnderTest = {
  name: 'embedded',
  makeHome: async () => directoryHome(),
  start: () => SluiceServer.start(),
};

/** Processes of one role each on one home. */
export class Fleet implements Deployment {
  readonly home: Home;
  readonly processes: readonly SluiceServer[];

  private constructor(home: Home, processes: readonly SluiceServer[]) {
    this.home = home;
    this.processes = processes;
  }

  /** One process for each role that is named; a role may be named again. */
  static async start(home: Home, roles: readonly string[], args: readonly string[] = []): Promise<Fleet> {
    const started = roles.map((role) => SluiceServer.start({ home, args: ['--role', role, ...args] }));
    const ended = await Promise.allSettled(started);
    const processes = ended.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const fleet = new Fleet(home, processes);
    const refused = ended.find((one) => one.status === 'rejected');
    if (refused === undefined) return fleet;
    await fleet.dispose();
    throw refused.reason;
  }

  get url(): string {
    return this.processes.find(({ url }) => url !== '')!.url;
  }

  env(): Record<string, string> {
    return { SLUICE_URL: this.url };
  }

  run(args: readonly string[]) {
    return sluice(args, this.env());
  }

  deploy(file: string): Promise<void> {
    return deployTo(this, file);
  }

  async dispose(): Promise<void> {
    await Promise.all(this.processes.map((process) => process.dispose()));
    await this.home.remove();
  }
}

/** Homes are prefixes in one Redis, which the suite has for itself. */
const redisStore = (server: () => Promise<RedisServer>): StoreUnderTest => {
  const makeHome = async (): Promise<Home> => {
    const { url } = await server();
    const prefix = `test-${randomBytes(4).toString('hex')}`;
    const artifacts = temporaryDirectory();
    return {
      command: 'serve',
      args: ['--store', url, '--redis-prefix', prefix, '--artifacts', artifacts],
      // What is in Redis goes with the server.
      remove: async () => rmSync(artifacts, { recursive: true, force: true }),
    };
  };
  return {
    name: 'redis',
    makeHome,
    start: async () => Fleet.start(await makeHome(), ['ingress', 'buffer', 'worker']),
  };
};

/** The suite once for each store. Without a Redis server the tests on Redis are skipped, and fail in CI. */
export const onEveryStore = (suite: (store: StoreUnderTest) => void): void => {
  describe('the embedded store', () => suite(EMBEDDED));
  onRedis(suite);
};

export const onRedis = (suite: (store: StoreUnderTest) => void): void => {
  describeWithRedis('the redis store', () => {
    let server: Promise<RedisServer> | null = null;
    afterAll(async () => {
      await (await server)?.stop();
    });
    suite(
      redisStore(() => {
        server ??= RedisServer.start();
        return server;
      }),
    );
  });
};
