/** The server as an operator meets it: stops, refusals, keys, one owner of a directory, and the examples against it. */
import { execFile } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import {
  eventually,
  type Home,
  PYTHON,
  ROOT,
  SluiceServer,
  sluice,
  untilDead,
} from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

const run = promisify(execFile);
const HAS_GPU = existsSync('/dev/nvidia0');

type Shown = { replicas: { ready: number; reason: string | null; ignored: string[] }[] };

const submit = async (
  server: SluiceServer,
  name: string,
  values: readonly number[],
  headers = {},
): Promise<Response> =>
  fetch(`${server.url}/v1/functions/${name}/calls`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ columns: { value: values } }),
  });

const shown = async (server: SluiceServer, name: string): Promise<Shown['replicas'][number]> => {
  const answer = (await (await fetch(`${server.url}/v1/functions/${name}`)).json()) as Shown;
  return answer.replicas[0]!;
};

onEveryStore((store) => {
  const open: SluiceServer[] = [];
  const homes: Home[] = [];
  const makeHome = async (): Promise<Home> => {
    const home = await store.makeHome();
    homes.push(home);
    return home;
  };
  const started = async (options: Parameters<typeof SluiceServer.start>[0] = {}): Promise<SluiceServer> => {
    const server = await SluiceServer.start({ home: await makeHome(), ...options });
    open.push(server);
    return server;
  };
  afterEach(async () => {
    for (const server of open.splice(0)) await server.dispose();
    for (const home of homes.splice(0)) await home.remove();
  });

  describe('SIGTERM', () => {
    it('lets the running batch finish, keeps the rest, and leaves with 0', async () => {
      const server = await started();
      await server.deploy('test/fixtures/functions/slow.py');
      const accepted = (await (await submit(server, 'slow', [1, 3])).json()) as { call_id: string };
      const at = `/v1/calls/${accepted.call_id}`;
      await eventually('the first row runs', async () => {
        const call = (await (await fetch(server.url + at)).json()) as { status: string };
        return call.status === 'running';
      });
      const exit = server.kill('SIGTERM');
      await eventually('readiness falls before the door closes', async () => {
        return (await fetch(`${server.url}/readyz`)).status === 503;
      });
      expect((await fetch(server.url + at)).status).toBe(200);
      expect(await exit).toBe(0);
      const again = await started({ home: server.home });
      const answer = await fetch(`${again.url}${at}/result?wait=60`);
      expect(await answer.json()).toMatchObject({ status: 'completed', result: [1, 3], errors: [] });
    });
  });

  describe('a grace that is over', () => {
    it('hands back what runs, and the next server finishes it', async () => {
      const server = await started({ args: ['--grace', '1s'] });
      await server.deploy('test/fixtures/functions/slow.py');
      const accepted = (await (await submit(server, 'slow', [1, 3, 4])).json()) as { call_id: string };
      const at = `/v1/calls/${accepted.call_id}`;
      await eventually('the first row runs', async () => {
        const call = (await (await fetch(server.url + at)).json()) as { status: string };
        return call.status === 'running';
      });
      expect(await server.kill('SIGTERM'), server.log).toBe(0);
      const again = await started({ home: server.home });
      const answer = await fetch(`${again.url}${at}/result?wait=60`);
      expect(await answer.json()).toMatchObject({ status: 'completed', result: [1, 3, 4], errors: [] });
    });
  });

  describe('a server that is killed', () => {
    it('takes along handlers that hold their interpreter or their loop', async () => {
      const server = await started();
      for (const file of ['stuck.py', 'stuck.ts']) await server.deploy(`test/fixtures/functions/${file}`);
      for (const name of ['holds_the_interpreter', 'loops', 'sleeps']) {
        await submit(server, name, [1]);
        await eventually(`${name} has begun`, async () => {
          const logs = await (await fetch(`${server.url}/v1/functions/${name}/logs`)).text();
          return logs.includes('begun');
        });
      }
      const handlers = server.handlers();
      expect(handlers).toHaveLength(3);
      await server.kill('SIGKILL');
      await Promise.all(handlers.map(untilDead));
    });
  });

  describe.skipIf(HAS_GPU)('a function that asks for a GPU on a machine without one', () => {
    if (store.name === 'embedded')
      it('runs under `sluice dev`, which says so', async () => {
        const server = await started();
        await server.deploy('test/fixtures/functions/slow.py');
        const answer = await submit(server, 'on_gpu', [7], { prefer: 'wait=30' });
        expect(await answer.json()).toMatchObject({ result: [7] });
        expect((await shown(server, 'on_gpu')).ignored.join()).toContain('nvidia-l4');
      });

    it('is refused by `sluice serve`, with the reason in its status', async () => {
      const server = await started({ command: 'serve' });
      await server.deploy('test/fixtures/functions/slow.py');
      const replica = await eventually('the refusal is shown', async () => {
        const one = await shown(server, 'on_gpu');
        return one?.reason ? one : undefined;
      });
      expect(replica.reason).toContain('nvidia-l4');
      expect(replica.ready).toBe(0);
    });
  });

  if (store.name === 'embedded')
    describe('the data directory', () => {
      it('has one owner; a second server says who and what to do', async () => {
        const server = await started();
        const second = await sluice(['dev', '--port', '0', ...server.home.args]);
        expect(second.code).toBe(1);
        expect(second.stderr).toContain(server.home.args[1]);
      });
    });

  if (store.name === 'embedded')
    describe('a data directory at its limit', () => {
      it('refuses calls with 507, serves what it has, and takes them again once results have gone', async () => {
        const limit = ['--disk-limit', '16MiB', '--disk-reserve', '0', '--acknowledged-retention', '0s'];
        const server = await started({ args: limit });
        await server.deploy('test/fixtures/functions/texts.ts');
        const post = (text: readonly string[], headers = {}): Promise<Response> =>
          fetch(`${server.url}/v1/functions/length/calls`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', ...headers },
            body: JSON.stringify({ columns: { text } }),
          });
        const large = ['x'.repeat(1e6), 'y'.repeat(1e6)];
        const ids: string[] = [];
        /** The first answer that accepts nothing, or the last of ten. */
        const fill = async (): Promise<Response> => {
          for (let more = 10; ; more -= 1) {
            const answer = await post(large);
            if (answer.status !== 202 || more === 0) return answer;
            ids.push(((await answer.json()) as { call_id: string }).call_id);
          }
        };
        const response = await fill();
        expect([response.status, response.headers.get('content-type')]).toEqual([
          507,
          'application/problem+json',
        ]);
        expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
        const limited = 'The data directory is at its limit of 16777216 bytes';
        const problem = { code: 'disk_full', retryable: true, detail: expect.stringContaining(limited) };
        expect(await response.json()).toMatchObject(problem);
        for (const id of ids) {
          const result = await fetch(`${server.url}/v1/calls/${id}/result?wait=60`);
          expect(await result.json()).toMatchObject({ status: 'completed', result: [1e6, 1e6] });
        }
        // The log may have given some room back.
        expect((await fill()).status).toBe(507);
        for (const id of ids) await fetch(`${server.url}/v1/calls/${id}/result?wait=60`);
        for (const id of ids) await fetch(`${server.url}/v1/calls/${id}/acknowledge`, { method: 'POST' });
        await eventually('a call is taken again', async () => {
          return (await post(large, { prefer: 'wait=60' })).status === 200;
        });
      });
    });

  if (store.name === 'embedded')
    describe('sluice dev', () => {
      it('stays on the embedded store in one process, and says so when it is told otherwise', async () => {
        const args = ['--store', 'redis://u:s3cret@127.0.0.1:1', '--role', 'worker', '--health-port', '0'];
        const server = await started({ args: [...args, '--port', '0'] });
        expect(server.log).toContain('--store redis://u:***@127.0.0.1:1 is for `sluice serve`');
        expect(server.log).toContain('--role worker is for `sluice serve`');
        expect(server.log).not.toContain('s3cret');
        const { store: kind } = (await (await fetch(`${server.url}/v1/server`)).json()) as { store: string };
        expect(kind).toBe('embedded');
        expect((await fetch(`${server.healthUrl}/readyz`)).status).toBe(200);
        expect(await (await fetch(`${server.healthUrl}/metrics`)).text()).toContain('sluice_disk_bytes');
      });
    });

  describe('API keys', () => {
    it('are needed before the server listens beyond loopback, and then for every request', async () => {
      const home = await makeHome();
      const bare = await sluice(['serve', '--host', '0.0.0.0', '--port', '0', ...home.args]);
      expect(bare.code).toBe(1);
      expect(bare.stderr).toContain('sluice keys create');
      const local = await started({ home });
      const made = await local.run(['keys', 'create', 'ops', '--scope', 'admin', '--json']);
      expect(made.code, made.stderr).toBe(0);
      const { secret } = JSON.parse(made.stdout) as { secret: string };
      await local.kill('SIGTERM');
      const open = await started({ home, args: ['--host', '0.0.0.0'] });
      const port = new URL(open.url).port;
      const functions = `http://127.0.0.1:${port}/v1/functions`;
      expect((await fetch(functions)).status).toBe(401);
      expect((await fetch(functions, { headers: { authorization: `Bearer ${secret}` } })).status).toBe(200);
      expect((await fetch(functions, { headers: { authorization: 'Bearer sk_wrong' } })).status).toBe(401);
    });
  });

  describe('the examples', () => {
    it('http: curl alone deploys, submits, polls and reads', async () => {
      const server = await started();
      const { stdout } = await run('bash', ['examples/http/run.sh'], {
        cwd: ROOT,
        env: { ...process.env, ...server.env() },
      });
      expect(stdout).toContain('"result":[1,2,3]');
    });

    it('row-errors and typescript: deployed and called as their README says', async () => {
      const server = await started();
      const env = { ...process.env, ...server.env(), SLUICE_PYTHON: PYTHON };
      await server.deploy('examples/row-errors/prices.py');
      const rows = await run(PYTHON, ['examples/row-errors/run.py'], { cwd: ROOT, env });
      expect(rows.stdout.length).toBeGreaterThan(0);
      await server.deploy('examples/typescript/embed.ts');
      const typed = await run(process.execPath, [path.join(ROOT, 'examples/typescript/client.ts')], {
        cwd: ROOT,
        env,
      });
      expect(typed.stdout.length).toBeGreaterThan(0);
      rmSync(path.join(ROOT, 'examples/row-errors/out.parquet'), { force: true });
    });
  });
});
