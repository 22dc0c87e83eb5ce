/** Processes of one role each, two of every role, as they run on several machines: who does what, and how each may go. */
import { afterEach, describe, expect, it } from 'vitest';
import { RedisServer } from '../support/redis-servers.ts';
import { eventually, type Home, SluiceServer } from '../support/sluice-process.ts';
import { onRedis } from '../support/stores.ts';

type CallAnswer = { readonly status: string; readonly result: number[]; readonly errors: unknown[] };

/** Submits to a door that is ready and waits for the result; a door that goes away under the request is asked again. */
const doubled = async (
  doors: () => readonly SluiceServer[],
  key: string,
  values: readonly number[],
): Promise<CallAnswer> => {
  const answer = await eventually(`call ${key} is accepted`, async () => {
    for (const { url } of doors()) {
      const ready = await fetch(`${url}/readyz`).catch(() => null);
      if (ready?.status !== 200) continue;
      const response = await fetch(`${url}/v1/functions/double/calls`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ columns: { value: values } }),
      });
      if (response.status === 202) return ((await response.json()) as { call_id: string }).call_id;
    }
    return undefined;
  });
  return eventually(`call ${key} is finished`, async () => {
    for (const { url } of doors()) {
      const response = await fetch(`${url}/v1/calls/${answer}/result?wait=20`).catch(() => null);
      if (response?.status === 200) return (await response.json()) as CallAnswer;
    }
    return undefined;
  });
};

const expectDoubled = (answer: CallAnswer, values: readonly number[]): void =>
  expect(answer).toMatchObject({ status: 'completed', result: values.map((value) => value * 2), errors: [] });

const metricsOf = async ({ healthUrl }: SluiceServer): Promise<string> =>
  (await fetch(`${healthUrl}/metrics`)).text();

const sealed = (metrics: string): number =>
  [...metrics.matchAll(/^sluice_batches_sealed_total\{.*\} (\d+)/gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );

onRedis((store) => {
  const processes = new Set<SluiceServer>();
  let home: Home;

  const start = async (role: string, ...args: readonly string[]): Promise<SluiceServer> => {
    const process = await SluiceServer.start({
      home,
      args: ['--role', role, '--health-port', '0', '--lease', '2s', ...args],
    });
    processes.add(process);
    return process;
  };
  const startAll = async () => {
    home = await store.makeHome();
    const [ingress, ...others] = await Promise.all(
      ['ingress', 'ingress', 'buffer', 'buffer', 'worker', 'worker'].map((role) => start(role)),
    );
    await ingress!.deploy('test/fixtures/functions/double.py');
    const [second, firstBuffer, secondBuffer, ...workers] = others;
    return { ingresses: [ingress!, second!], buffers: [firstBuffer!, secondBuffer!], workers };
  };
  /** The buffer that seals the function's batches: the one whose count rises, which may be after a quick worker's answer. */
  const sealerOf = async (
    buffers: readonly SluiceServer[],
    ingresses: readonly SluiceServer[],
    key: string,
  ) => {
    const before = await Promise.all(buffers.map(metricsOf));
    expectDoubled(await doubled(() => ingresses, key, [1, 2]), [1, 2]);
    const risen = await eventually('a buffer has counted what it sealed', async () => {
      const after = await Promise.all(buffers.map(metricsOf));
      const found = buffers.filter((_, at) => sealed(after[at]!) > sealed(before[at]!));
      return found.length > 0 ? found : undefined;
    });
    expect(risen).toHaveLength(1);
    return risen[0]!;
  };

  afterEach(async () => {
    await Promise.all([...processes].map((process) => process.dispose()));
    processes.clear();
    await home.remove();
  });

  describe('processes of one role each', () => {
    it('serve at every door what any of them was told, each with its own health and metrics', async () => {
      const { ingresses, buffers, workers } = await startAll();
      for (const process of processes) {
        expect((await fetch(`${process.healthUrl}/livez`)).status).toBe(200);
        expect((await fetch(`${process.healthUrl}/readyz`)).status).toBe(200);
      }
      for (const ingress of ingresses)
        expectDoubled(await doubled(() => [ingress], `at ${ingress.url}`, [1, 2, 3]), [1, 2, 3]);
      const texts = await Promise.all([ingresses[0]!, ...buffers, ...workers].map(metricsOf));
      const [atIngress, ...others] = texts;
      expect(atIngress).toContain('sluice_queue_rows{function="double",state="waiting"}');
      for (const text of others) expect(text).not.toContain('sluice_queue_rows{');
      expect(texts.filter((text) => sealed(text) > 0)).toHaveLength(1);
      expect([...buffers, ...workers].map(({ url }) => url)).toEqual(['', '', '', '']);
    });

    it('add up the replicas of all workers, and forget those of a dead one', async () => {
      const { ingresses, workers } = await startAll();
      const ready = async (): Promise<number> => {
        const answer = await fetch(`${ingresses[1]!.url}/v1/functions/double`);
        const { replicas } = (await answer.json()) as { replicas: { ready: number }[] };
        return replicas.reduce((sum, replica) => sum + replica.ready, 0);
      };
      await eventually('two replicas', async () => (await ready()) === 2);
      await workers[0]!.kill('SIGKILL');
      await eventually('one replica', async () => (await ready()) === 1);
    });
  });

  describe('the buffer of a function', () => {
    it.each([
      ['is killed', 'SIGKILL'],
      ['leaves', 'SIGTERM'],
    ] as const)('moves to another process when its owner %s', async (_, signal) => {
      const { ingresses, buffers } = await startAll();
      const owner = await sealerOf(buffers, ingresses, 'before');
      const others = buffers.filter((buffer) => buffer !== owner);
      const exit = await owner.kill(signal);
      if (signal === 'SIGTERM') expect(exit).toBe(0);
      expect(await sealerOf(others, ingresses, 'after')).toBe(others[0]);
    });

    it('moves when its owner is paused, which seals nothing when it goes on', async () => {
      const { ingresses, buffers } = await startAll();
      const owner = await sealerOf(buffers, ingresses, 'before');
      const others = buffers.filter((buffer) => buffer !== owner);
      process.kill(owner.pid, 'SIGSTOP');
      expect(await sealerOf(others, ingresses, 'meanwhile')).toBe(others[0]);
      process.kill(owner.pid, 'SIGCONT');
      const values = Array.from({ length: 500 }, (_, n) => n);
      expectDoubled(await doubled(() => ingresses, 'after', values), values);
    });
  });

  describe('processes whose store does not answer', () => {
    it('leave within the grace and with 0, since all that was accepted is in the store', async () => {
      await using redis = await RedisServer.start();
      home = { command: 'serve', args: ['--store', redis.url], remove: async () => undefined };
      const roles = ['ingress', 'buffer', 'worker'];
      const all = await Promise.all(roles.map((role) => start(role, '--grace', '1500')));
      await all[0]!.deploy('test/fixtures/functions/double.py');
      expectDoubled(await doubled(() => all.slice(0, 1), 'a', [1, 2]), [1, 2]);
      redis.signal('SIGSTOP');
      // What does not end within the grace is ended with 1 some seconds later.
      const codes = await Promise.all(all.map((process) => process.kill('SIGTERM')));
      expect(codes, all.map(({ log }) => log).join('\n')).toEqual([0, 0, 0]);
    });
  });

  describe('a rolling upgrade', () => {
    it('replaces every process under load; no call fails, no batch spends an attempt, and each leaves with 0', async () => {
      const { ingresses, buffers, workers } = await startAll();
      const doors = new Set(ingresses);
      let isLoading = true;
      const caller = async (name: string): Promise<number> => {
        for (let n = 0; ; n += 1) {
          if (!isLoading) return n;
          const values = Array.from({ length: 20 }, (_, i) => n * 20 + i);
          expectDoubled(await doubled(() => [...doors], `${name}-${n}`, values), values);
        }
      };
      const callers = Promise.all(['a', 'b', 'c'].map(caller));
      const attempts: string[] = [];
      for (const [role, olds] of [
        ['worker', workers],
        ['buffer', buffers],
        ['ingress', ingresses],
      ] as const) {
        for (const old of olds) {
          const fresh = await start(role);
          if (role === 'ingress') doors.add(fresh);
          attempts.push(await metricsOf(old));
          expect(await old.kill('SIGTERM'), `${role}: ${old.log}`).toBe(0);
          doors.delete(old);
          processes.delete(old);
        }
      }
      isLoading = false;
      for (const count of await callers) expect(count).toBeGreaterThan(0);
      for (const process of processes) attempts.push(await metricsOf(process));
      expect(attempts.join('\n')).not.toMatch(/sluice_attempts_total\{.*end="(error|crash|timeout)"/);
    });
  });
});
