/** Processes of Sluice on one home that come and go under load; a place is empty while its process starts again. */
import type { Random } from '../sim/random.ts';
import { type Home, SluiceServer } from './sluice-process.ts';

export type HerdOptions = {
  /** One place each; `all` for a process with every role. */
  readonly roles: readonly string[];
  readonly random: Random;
  readonly args?: readonly string[];
  /** Of one place alone: its home, or what it runs with. */
  readonly place?: (place: number) => { readonly home?: Home; readonly env?: Record<string, string> };
};

/** A herd of `all` places has no `--role` flag, as the embedded store wants it. */
const argsOf = (role: string, args: readonly string[]): string[] =>
  role === 'all' ? [...args] : ['--role', role, ...args];

export class Herd {
  readonly #home: Home;
  readonly #options: HerdOptions;
  readonly #places: (SluiceServer | null)[];
  /** Processes that were killed: workers and handlers among them may have runs to do again. */
  readonly killed = new Set<number>();
  kills = 0;

  constructor(home: Home, options: HerdOptions) {
    this.#home = home;
    this.#options = options;
    this.#places = options.roles.map(() => null);
  }

  static async start(home: Home, options: HerdOptions): Promise<Herd> {
    const herd = new Herd(home, options);
    const filled = await Promise.allSettled(options.roles.map((_, place) => herd.fill(place)));
    const refused = filled.find(({ status }) => status === 'rejected');
    if (refused === undefined) return herd;
    await herd.stop();
    throw (refused as PromiseRejectedResult).reason;
  }

  get alive(): readonly SluiceServer[] {
    return this.#places.filter((server) => server !== null);
  }

  at(place: number): SluiceServer {
    return this.#places[place]!;
  }

  /** One that is alive and listens; null while there is none. */
  door(): SluiceServer | null {
    const open = this.alive.filter(({ url }) => url !== '');
    return open.length === 0 ? null : open[this.#options.random.int(0, open.length - 1)]!;
  }

  /** Kills a handler or a process at random, and starts a process again. */
  async killOne(): Promise<void> {
    const { random, roles } = this.#options;
    this.kills += 1;
    const handlers = this.alive.flatMap((server) => server.handlers());
    if (random.chance(0.4) && handlers.length > 0) {
      const handler = handlers[random.int(0, handlers.length - 1)]!;
      this.killed.add(handler);
      process.kill(handler, 'SIGKILL');
      return;
    }
    const place = random.int(0, roles.length - 1);
    const dying = this.#places[place]!;
    this.#places[place] = null;
    for (const pid of [dying.pid, ...dying.handlers()]) this.killed.add(pid);
    await dying.kill('SIGKILL');
    await this.fill(place);
  }

  /** Starts a process in a place; the one that was there is left to whoever asks. */
  async fill(place: number): Promise<SluiceServer> {
    const { roles, args = [], place: own } = this.#options;
    const { home = this.#home, env = {} } = own?.(place) ?? {};
    const server = await SluiceServer.start({ home, args: argsOf(roles[place]!, args), env });
    this.#places[place] = server;
    return server;
  }

  /** Lets go of a process, for the caller to end. */
  empty(place: number): SluiceServer {
    const server = this.#places[place]!;
    this.#places[place] = null;
    return server;
  }

  async stop(): Promise<void> {
    await Promise.all(this.alive.map((server) => server.kill()));
  }
}
