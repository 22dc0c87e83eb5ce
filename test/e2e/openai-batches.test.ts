/** Batches over kills of the processes that run them, files of many megabytes, and files of other keys. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually, type Home, SluiceServer } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

const FUNCTIONS = 'test/fixtures/functions/openai.ts';
const LINES = 30_000;
const KILLS = 3;
/** Rows of one batch of the function, and of the one that its handler has besides. */
const IN_FLIGHT_ROWS = 2 * 256;

const clientOf = (url: string, apiKey = 'none'): OpenAI =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 3 });
const asking = (id: number | string, model: string, input: string): string =>
  JSON.stringify({ custom_id: String(id), method: 'POST', url: '/v1/embeddings', body: { model, input } });
const order = (client: OpenAI, file: { id: string }) =>
  client.batches.create({ input_file_id: file.id, endpoint: '/v1/embeddings', completion_window: '24h' });
const isOver = (status: string): boolean => /^(failed|completed|expired|cancelled)$/.test(status);

onEveryStore((store) => {
  const open: SluiceServer[] = [];
  const homes: Home[] = [];
  let directory = '';
  const begin = async (): Promise<Home> => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-batches-'));
    const home = await store.makeHome();
    homes.push(home);
    return home;
  };
  const start = async (home: Home, args: readonly string[] = []): Promise<SluiceServer> => {
    const server = await SluiceServer.start({ home, args: [...args, '--lease', '3s'] });
    open.push(server);
    return server;
  };
  afterEach(async () => {
    for (const server of open.splice(0)) await server.dispose();
    for (const home of homes.splice(0)) await home.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  /** What runs batches is killed again and again; on Redis there are two of them, and the door stays open. */
  const rig = async (home: Home) => {
    if (store.name === 'embedded') {
      let server = await start(home);
      const rise = async (): Promise<void> => {
        await server.kill();
        server = await start(home);
      };
      return { door: () => server, rise };
    }
    const door = await start(home, ['--role', 'ingress']);
    await start(home, ['--role', 'worker']);
    const runners = [await start(home, ['--role', 'buffer']), await start(home, ['--role', 'buffer'])];
    const rise = async (): Promise<void> => {
      await runners.shift()!.kill();
      runners.push(await start(home, ['--role', 'buffer']));
    };
    return { door: () => door, rise };
  };

  it('a batch goes on over kills, and no line is in two calls, or in none', async () => {
    const { door, rise } = await rig(await begin());
    await door().deploy(FUNCTIONS);
    const note = path.join(directory, 'runs');
    const lines = Array.from({ length: LINES }, (_, i) => asking(i, 'slow-embed', `NOTE ${note} ${i}`));
    const file = await clientOf(door().url).files.create({
      ...{ file: new File([lines.join('\n')], 'a.jsonl'), purpose: 'batch' },
    });
    const { id } = await order(clientOf(door().url), file);
    for (let kill = 1; kill <= KILLS; kill += 1) {
      await eventually(`a part of the batch is done, for kill ${kill}`, async () => {
        const { request_counts: counts } = await clientOf(door().url).batches.retrieve(id);
        return counts!.completed >= (kill * LINES) / (KILLS + 2);
      });
      await rise();
    }
    const client = clientOf(door().url);
    const done = await eventually('the batch ends', async () => {
      const batch = await client.batches.retrieve(id);
      return isOver(batch.status) && batch;
    });
    expect(done).toMatchObject({
      ...{ status: 'completed', error_file_id: null },
      request_counts: { total: LINES, completed: LINES, failed: 0 },
    });
    const answers = (await (await client.files.content(done.output_file_id!)).text()).trimEnd().split('\n');
    expect(answers.map((one) => JSON.parse(one).custom_id)).toEqual([...Array(LINES).keys()].map(String));
    const list = await fetch(`${door().url}/v1/calls?function=slow-embed&limit=1000`);
    const { calls } = (await list.json()) as { calls: { rows: number; metadata: { first_line: string } }[] };
    expect(new Set(calls.map(({ metadata }) => metadata.first_line)).size).toBe(calls.length);
    expect(calls.reduce((sum, { rows }) => sum + rows, 0)).toBe(LINES);
    const runs = readFileSync(note, 'utf8').trimEnd().split('\n');
    expect(new Set(runs).size).toBe(LINES);
    // What the killed had in flight runs again, and nothing besides.
    expect(runs.length - LINES).toBeLessThanOrEqual(KILLS * IN_FLIGHT_ROWS);
  });

  it('a full queue is the client’s RateLimitError, and a batch waits for room in it', async () => {
    const server = await start(await begin(), ['--queue-rows-max', '4']);
    await server.deploy(FUNCTIONS);
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const gate = path.join(directory, 'full');
    const holding = client.embeddings.create({ model: 'held', input: [gate, gate, gate] });
    await eventually('the first row runs', async () => existsSync(`${gate}.began`));
    const lines = [asking(1, 'held', gate), asking(2, 'held', gate)].join('\n');
    const file = await client.files.create({ file: new File([lines], 'a.jsonl'), purpose: 'batch' });
    const { id } = await order(client, file);
    await eventually('the batch is in progress', async () => {
      return (await client.batches.retrieve(id)).status === 'in_progress';
    });
    const refused = client.embeddings.create({ model: 'held', input: [gate, gate] });
    await expect(refused).rejects.toThrow(OpenAI.RateLimitError);
    const error = await refused.catch((thrown: unknown) => thrown as InstanceType<typeof OpenAI.APIError>);
    expect(error).toMatchObject({ status: 429, code: 'queue_full', type: 'rate_limit_error' });
    expect(Number((error as { headers: Headers }).headers.get('retry-after'))).toBeGreaterThan(0);
    writeFileSync(gate, '');
    expect((await holding).data).toHaveLength(3);
    const done = await eventually('the batch ends', async () => {
      const batch = await client.batches.retrieve(id);
      return isOver(batch.status) && batch;
    });
    expect(done.request_counts).toEqual({ total: 2, completed: 2, failed: 0 });
  });

  describe('a file', () => {
    /** Sends a multipart body as it is made, and gives the status; `cutAfter`: the connection ends there. */
    const send = (url: string, parts: Iterable<string>, cutAfter = Number.POSITIVE_INFINITY) =>
      new Promise<{ status: number; text: string }>((resolve, reject) => {
        const outgoing = request(`${url}/v1/files`, {
          method: 'POST',
          headers: { 'content-type': 'multipart/form-data; boundary=xyz' },
        });
        outgoing.on('response', (response) => {
          let text = '';
          response.on('data', (chunk) => {
            text += chunk;
          });
          response.on('end', () => resolve({ status: response.statusCode!, text }));
        });
        outgoing.on('error', reject);
        const write = async (): Promise<void> => {
          let sent = 0;
          for (const part of parts) {
            sent += part.length;
            if (sent > cutAfter) {
              outgoing.destroy(new Error('cut off here'));
              return;
            }
            if (!outgoing.write(part)) await new Promise((go) => outgoing.once('drain', () => go(null)));
          }
          outgoing.end();
        };
        write().catch(reject);
      });

    const HEAD = [
      '--xyz\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
      '--xyz\r\ncontent-disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n',
    ].join('');

    function* large(): Generator<string> {
      yield HEAD;
      const text = 'x'.repeat(950);
      for (let i = 0; i < 200; i += 1) {
        const lines = Array.from({ length: 1000 }, (_, j) => asking(`${i}-${j}`, 'embed', text));
        yield `${lines.join('\n')}\n`;
      }
      yield asking('0-0', 'embed', 'again');
      yield '\r\n--xyz--\r\n';
    }

    const memoryBytes = (pid: number): number =>
      Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;

    it('of 200 MB is taken and checked to its last line, in bounded memory', async () => {
      const server = await start(await begin());
      const before = memoryBytes(server.pid);
      const { status, text } = await send(server.url, large());
      expect(status).toBe(200);
      const file = JSON.parse(text) as { id: string; bytes: number };
      expect(file.bytes).toBeGreaterThan(200e6);
      const client = clientOf(server.url);
      const { id } = await order(client, file);
      const done = await eventually('the file is checked', async () => {
        const batch = await client.batches.retrieve(id);
        return isOver(batch.status) && batch;
      });
      expect(done.errors!.data).toMatchObject([{ code: 'duplicate_custom_id', line: 200_001 }]);
      expect(memoryBytes(server.pid) - before).toBeLessThan(300 * 2 ** 20);
    });

    it('that is cut off, or torn, is not there', async () => {
      const server = await start(await begin());
      await expect(send(server.url, large(), 5e6)).rejects.toThrow('cut off here');
      const torn = await send(server.url, [HEAD, '{"custom_id": "a"']);
      expect(torn.status).toBe(400);
      expect(JSON.parse(torn.text)).toMatchObject({
        error: { param: 'file', type: 'invalid_request_error' },
      });
      const none = await send(server.url, [
        '--xyz\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--xyz--\r\n',
      ]);
      expect(none.status).toBe(400);
      const client = clientOf(server.url);
      expect((await client.files.list()).data).toEqual([]);
      expect((await client.models.list()).data).toEqual([]);
    });

    it('and a batch belong to the key that made them', async () => {
      const home = await begin();
      const server = await start(home);
      const made = await fetch(`${server.url}/v1/keys`, {
        ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
        body: JSON.stringify({ name: 'root', scopes: ['admin'] }),
      });
      const { secret: admin } = (await made.json()) as { secret: string };
      const keyOf = async (name: string): Promise<OpenAI> => {
        const answer = await fetch(`${server.url}/v1/keys`, {
          ...{ method: 'POST', body: JSON.stringify({ name, scopes: ['call'] }) },
          headers: { 'content-type': 'application/json', authorization: `Bearer ${admin}` },
        });
        return clientOf(server.url, ((await answer.json()) as { secret: string }).secret);
      };
      const [mine, other, root] = [await keyOf('mine'), await keyOf('other'), clientOf(server.url, admin)];
      const file = await mine.files.create({
        ...{ file: new File([asking(1, 'nobody', 'a')], 'a.jsonl'), purpose: 'batch' },
      });
      const batch = await order(mine, file);
      const asked = [
        () => other.files.retrieve(file.id),
        () => other.files.content(file.id),
        () => other.files.delete(file.id),
        () => order(other, file),
        () => other.batches.retrieve(batch.id),
        () => other.batches.cancel(batch.id),
      ];
      for (const ask of asked) await expect(ask()).rejects.toThrow(OpenAI.NotFoundError);
      expect((await other.files.list()).data).toEqual([]);
      expect((await other.batches.list()).data).toEqual([]);
      expect((await mine.files.list()).data).toContainEqual(file);
      expect(await root.files.retrieve(file.id)).toEqual(file);
      const wrong = clientOf(server.url, 'sl-nobody');
      await expect(wrong.models.list()).rejects.toThrow(OpenAI.AuthenticationError);
      await expect(wrong.embeddings.create({ model: 'a', input: 'a' })).rejects.toMatchObject({
        ...{ status: 401, type: 'authentication_error', code: 'unauthorized' },
      });
    });
  });
});
