/**
 * kill -9 of the server and of handlers, at random moments under load, with restarts: no accepted row is lost, none
 * has two results. The seed is printed; SLUICE_KILLS=n runs more.
 */
import { rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../sim/random.ts';
import { eventually, SluiceServer, temporaryDirectory } from '../support/sluice-process.ts';

const KILLS = Number(process.env.SLUICE_KILLS ?? (process.env.SLUICE_TEST_LONG ? 300 : 50));
const SEED = Number(process.env.SLUICE_KILL_SEED ?? Math.floor(Math.random() * 1e9));

type Accepted = { readonly id: string; readonly values: readonly number[] };

/** Submits with an idempotency key until the server, whichever is alive, has accepted; a lost answer is asked for again. */
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

describe(`${KILLS} kills (SLUICE_KILL_SEED=${SEED})`, () => {
  it('lose no accepted row and answer none twice', async () => {
    const random = new Random(SEED);
    const data = temporaryDirectory();
    let server: SluiceServer | null = await SluiceServer.start({ data });
    await server.deploy('test/fixtures/functions/double.py');
    const accepted: Accepted[] = [];
    let submitting = true;
    let next = 0;
    const caller = async (name: string): Promise<void> => {
      for (let n = 0; submitting; n += 1) {
        const values = Array.from({ length: random.int(1, 200) }, () => next++);
        accepted.push(await submit(() => server, `${name}-${n}`, values));
      }
    };
    const callers = ['a', 'b', 'c', 'd'].map(caller);
    try {
      for (let kill = 0; kill < KILLS; kill += 1) {
        const goal = accepted.length + random.int(1, 12);
        await eventually('calls go on being accepted', async () => accepted.length >= goal);
        const handlers = server.handlers();
        if (random.chance(0.5) && handlers.length > 0) {
          process.kill(handlers[random.int(0, handlers.length - 1)]!, 'SIGKILL');
        } else {
          const dying: SluiceServer = server;
          server = null;
          await dying.kill('SIGKILL');
          server = await SluiceServer.start({ data });
        }
      }
      submitting = false;
      await Promise.all(callers);
      expect(accepted.length).toBeGreaterThan(KILLS);
      expect(new Set(accepted.map(({ id }) => id)).size).toBe(accepted.length);
      for (const call of accepted) await checkResult(server, call);
    } finally {
      submitting = false;
      await server?.kill();
      rmSync(data, { recursive: true, force: true });
    }
  });
});
