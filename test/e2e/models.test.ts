/** Models over HTTP alone, with real replicas: registered, deployed, called, updated under load, rolled back, deleted. */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ScalingGroupJson } from '../../shared/wire/model-api.ts';
import { eventually, type Home, SluiceServer, temporaryDirectory } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

/** Answers its first column times what its file says, as the column that the registration names. */
const MODEL = `
import pyarrow.compute as pc

class Model:
    def load_model(self):
        self.factor = float(self.files["factor.txt"].read_text())

    def predict(self, df):
        return {"price": pc.multiply(df.to_arrow()["sqft"], self.factor)}
`;
const BROKEN = `
class Model:
    def load_model(self):
        raise RuntimeError("the weights are of another model")

    def predict(self, df):
        return df
`;

const field = (name: string) => ({ name, type: 'float64', nullable: true });

class Models {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  async ask(method: string, route: string, body?: unknown) {
    const response = await fetch(this.#url + route, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await response.text();
    return { status: response.status, json: text === '' ? null : JSON.parse(text) };
  }

  async #upload(text: string) {
    const bytes = Buffer.from(text);
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const headers = { 'upload-offset': '0', 'upload-length': String(bytes.length) };
    const { status } = await fetch(`${this.#url}/v1/artifacts/${digest}`, {
      method: 'PATCH',
      body: bytes,
      headers: { 'content-type': 'application/octet-stream', ...headers },
    });
    expect(status).toBe(204);
    return { path: 'factor.txt', digest, bytes: bytes.length };
  }

  async register(factor: string, source = MODEL): Promise<number> {
    const answer = await this.ask('POST', '/v1/models/house/versions', {
      ...{ inputs: [field('sqft'), field('rooms')], outputs: [field('price')] },
      handler: { file: 'model.py', attribute: 'Model' },
      source: [{ path: 'model.py', content: Buffer.from(source).toString('base64') }],
      files: [await this.#upload(factor)],
    });
    expect(answer.status, JSON.stringify(answer.json)).toBe(201);
    return answer.json.version;
  }

  async deploy(more: object = {}): Promise<ScalingGroupJson> {
    const answer = await this.ask('PUT', '/v1/scaling-groups/sg', { model: 'house', ...more });
    expect([200, 201], JSON.stringify(answer.json)).toContain(answer.status);
    return answer.json;
  }

  async group(): Promise<ScalingGroupJson> {
    return (await this.ask('GET', '/v1/scaling-groups/sg')).json;
  }

  /** Resolves when the group serves a version and nothing is under way. */
  settled(version: number): Promise<ScalingGroupJson> {
    return eventually(`version ${version} serves`, async () => {
      const group = await this.group();
      return group.state === 'ready' && group.version === version ? group : undefined;
    });
  }

  async predict(sqft: readonly (number | null)[]): Promise<readonly (number | null)[]> {
    const response = await fetch(`${this.#url}/v1/functions/model.sg/calls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: 'wait=60' },
      body: JSON.stringify({ columns: { sqft, rooms: sqft } }),
    });
    const json = (await response.json()) as { status: string; result: number[]; errors: object[] };
    expect([response.status, json.status], JSON.stringify(json)).toEqual([200, 'completed']);
    return json.result;
  }
}

onEveryStore((store) => {
  let home: Home;
  let artifacts: string;
  let server: SluiceServer;
  let models: Models;
  const start = async (): Promise<void> => {
    server = await SluiceServer.start({ home, args: ['--artifacts', artifacts] });
    models = new Models(server.url);
  };
  beforeEach(async () => {
    home = await store.makeHome();
    artifacts = temporaryDirectory();
    await start();
  });
  afterEach(async () => {
    await server.dispose();
    await home.remove();
    rmSync(artifacts, { recursive: true, force: true });
  });

  describe('a model', () => {
    it('is registered, deployed and called, with nulls, over HTTP alone', async () => {
      await models.register('2');
      await models.deploy({ scaling: { min_replicas: 2, max_replicas: 2 } });
      expect(await models.predict([1, null, 2.5])).toEqual([2, null, 5]);
      const group = await eventually('both replicas are ready', async () => {
        const one = await models.group();
        return one.replicas.ready === 2 ? one : undefined;
      });
      expect(group.replicas.details.map(({ version, state }) => [version, state])).toEqual([
        [1, 'ready'],
        [1, 'ready'],
      ]);
      expect((await models.ask('DELETE', '/v1/models/house')).json.code).toBe('model_deployed');
      expect((await models.ask('DELETE', '/v1/scaling-groups/sg')).status).toBe(204);
      expect((await models.ask('DELETE', '/v1/models/house')).status).toBe(204);
    });

    it('is updated under load without a failed call, and goes back', async () => {
      await models.register('2');
      await models.register('3');
      await models.deploy({ version: 1 });
      await models.settled(1);
      await models.deploy({ version: 2 });
      let isDone = false;
      const seen: number[] = [];
      const load = async (): Promise<void> => {
        for (;;) {
          const wasDone = isDone;
          seen.push((await models.predict([1]))[0]!);
          if (wasDone) return;
        }
      };
      const callers = [load(), load(), load(), load()];
      await models.settled(2);
      isDone = true;
      await Promise.all(callers);
      expect(new Set(seen)).toEqual(new Set([2, 3]));
      expect(await models.predict([1])).toEqual([3]);
      const back = await models.ask('POST', '/v1/scaling-groups/sg/rollback');
      expect(back.json.update).toMatchObject({ version: 1 });
      await models.settled(1);
      expect(await models.predict([1])).toEqual([2]);
    });

    it('that cannot be loaded is rolled back with its last words, and what runs goes on', async () => {
      await models.register('2');
      await models.register('3', BROKEN);
      await models.deploy({ version: 1 });
      await models.settled(1);
      await models.deploy({ version: 2 });
      const group = await eventually('the update is dropped', async () => {
        const one = await models.group();
        return one.update === null ? one : undefined;
      });
      expect([group.version, group.state]).toEqual([1, 'ready']);
      expect(group.reason).toContain('the weights are of another model');
      expect(group.events.at(-1)!.kind).toBe('rolled_back');
      expect(group.events.at(-1)!.text).toContain('the weights are of another model');
      expect(await models.predict([1])).toEqual([2]);
      expect((await models.ask('DELETE', '/v1/models/house/versions/2')).status).toBe(204);
    });

    it('whose update is cut off by a crash of the server is updated by the next', async () => {
      await models.register('2');
      await models.register('3');
      await models.deploy({ version: 1 });
      await models.settled(1);
      await models.deploy({ version: 2 });
      await server.kill('SIGKILL');
      await start();
      await models.settled(2);
      expect(await models.predict([1])).toEqual([3]);
    });
  });
});
