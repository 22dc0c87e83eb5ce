/**
 * kill -9 of processes and of handlers, at random moments under load, with restarts: no accepted row is lost, none has
 * two results. Embedded: the one server. Redis: two processes of each role. The seed is printed; SLUICE_KILLS=n runs more.
 */
import { describe, expect, it } from 'vitest';
import { Random } from '../sim/random.ts';
import { eventually, type Home, SluiceServer } from '../support/sluice-process.ts';
import { onEveryStore, type StoreUnderTest } from '../support/stores.ts';

const KILLS = Number(process.env.SLUICE_KILLS ?? (process.env.SLUICE_TEST_LONG ? 300 : 50));
const SEED = Number(process.env.SLUICE_KILL_SEED ?? Math.floor(Math.random() * 1e9));

const ROLES: Readonly<Record<StoreUnderTest['name'], readonly string[]>> = {
  embedded: ['all'],
  redis: ['ingress', 'ingress', 'buffer', 'buffer', 'worker', 'worker'],
};

/** Results that are read at once. */
const READERS = 16;

/** Processes on one home; a place is empty while its process starts again. */
class Herd {
  readonly #home: Home;
  readonly #random: Random;
  readonly #roles: readonly string[];
  readonly #places: (SluiceServer | null)[] = [];

  constructor(home: Home, roles: readonly string[], random: Random) {
    this.#home = home;
    this.#roles = roles;
    this.#random = random;
  }

  async start(): Promise<void> {
    await Promise.all(this.#roles.map((_, place) => this.#fill(place)));
  }

  /** One that is alive and listens; null while there is none. */
  door(): SluiceServer | null {
    const open = this.#alive().filter(({ url }) => url !== '');
    return open.length === 0 ? null : open[this.#random.int(0, open.length - 1)]!;
  }

  /** Kills a handler or a process, and starts a process again. */
  async killOne(): Promise<void> {
    const handlers = this.#alive().flatMap((server) => server.handlers());
    if (this.#random.chance(0.4) && handlers.length > 0) {
      process.kill(handlers[this.#random.int(0, handlers.length - 1)]!, 'SIGKILL');
      return;
    }
    const place = this.#random.int(0, this.#roles.length - 1);
    const dying = this.#places[place]!;
    this.#places[place] = null;
    await dying.kill('SIGKILL');
    await this.#fill(place);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#alive().map((server) => server.kill()));
  }

  #alive(): SluiceServer[] {
    return this.#places.filter((server) => server !== null);
  }

  async #fill(place: number): Promise<void> {
    const role = this.#roles[place]!;
    const args = role === 'all' ? [] : ['--role', role, '--lease', '2s'];
    this.#places[place] = await SluiceServer.start({ home: this.#home, args });
  }
}

type Accepted = { readonly id: string; readonly values: readonly number[] };

/** Submits with an idempotency key until a server that is alive has accepted; a lost answer is asked for again. */
const submit = async (
  current: () => SluiceServer | null,
  key: string,
  values: readonly number[],
): Promise<Accepted> => {
  const body = JSON.stringify({ columns: { value: values } });
  const headers = { 'content-type': 'application/json', 'idempotency-key': key };
  return eventually(`call ${key} is accepted`, async () => {
    const server = current();
    if (!server) return undefined;
    const response = await fetch(`${server.url}/v1/functions/double/calls`, {
      method: 'POST',
      headers,
      body,
    });
    if (response.status !== 202) return undefined;
    return { id: ((await response.json()) as { call_id: string }).call_id, values };
  });
};

const checkResult = async (server: SluiceServer, accepted: Accepted): Promise<void> => {
  const response = await fetch(`${server.url}/v1/calls/${accepted.id}/result?wait=120`);
  expect(response.status, `result of ${accepted.id}`).toBe(200);
  const body = (await response.json()) as {
    result: number[];
    errors: unknown[];
    counts: Record<string, number>;
  };
  expect(body.errors).toEqual([]);
  expect(body.result).toEqual(accepted.values.map((value) => value * 2));
  expect(body.counts).toMatchObject({ ok: accepted.values.length, failed: 0, unfinished: 0 });
};

onEveryStore((store) => {
  describe(`${KILLS} kills (SLUICE_KILL_SEED=${SEED})`, () => {
    it('lose no accepted row and answer none twice', async () => {
      const random = new Random(SEED);
      const home = await store.makeHome();
      const herd = new Herd(home, ROLES[store.name], random);
      const accepted: Accepted[] = [];
      let submitting = true;
      let next = 0;
      const caller = async (name: string): Promise<void> => {
        for (let n = 0; submitting; n += 1) {
          const values = Array.from({ length: random.int(1, 200) }, () => next++);
          accepted.push(await submit(() => herd.door(), `${name}-${n}`, values));
        }
      };
      try {
        await herd.start();
        await herd.door()!.deploy('test/fixtures/functions/double.py');
        const callers = Promise.all(['a', 'b', 'c', 'd'].map(caller));
        for (let kill = 0; kill < KILLS; kill += 1) {
          const goal = accepted.length + random.int(1, 12);
          await eventually('calls go on being accepted', async () => accepted.length >= goal);
          await herd.killOne();
        }
        submitting = false;
        await callers;
        expect(accepted.length).toBeGreaterThan(KILLS);
        expect(new Set(accepted.map(({ id }) => id)).size).toBe(accepted.length);
        const unread = [...accepted];
        const reader = async (): Promise<void> => {
          for (let call = unread.pop(); call; call = unread.pop()) await checkResult(herd.door()!, call);
        };
        await Promise.all(Array.from({ length: READERS }, reader));
      } finally {
        submitting = false;
        await herd.stop();
        await home.remove();
      }
    });
  });
});
