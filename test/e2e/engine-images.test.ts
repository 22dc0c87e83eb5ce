/** An inference engine as a real image of podman, over HTTP from its registration to its answers: FastAPI under uvicorn. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ScalingGroupJson } from '../../shared/wire/model-api.ts';
import { buildImage, podman, whyNoImages } from '../support/container.ts';
import { makeBaseImage } from '../support/container-base.ts';
import { directoryHome, eventually, SluiceServer } from '../support/sluice-process.ts';

const BASE = `localhost/sluice-engines-base:${process.pid}`;
const IMAGE = `localhost/sluice-engines-fastapi:${process.pid}`;
const ARGS =
  '--runtime runc --network host --cgroups=no-conmon --ulimit nofile=1024:1024 --ulimit nproc=1024:1024';

const reason = await whyNoImages();
if (reason !== null) process.stderr.write(`Engines run in no container here: ${reason}.\n`);

// biome-ignore lint/suspicious/noExplicitAny: answers are looked at member by member
type Answer = any;

class Client {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  async ask(
    method: string,
    route: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(this.#url + route, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const json = await response.json();
    expect(response.status, JSON.stringify(json)).toBeLessThan(300);
    return json;
  }

  /** Imports the model whose file holds the factor. */
  async import(model: string, factor: number): Promise<void> {
    const body = Buffer.from(JSON.stringify({ factor }));
    const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`;
    await fetch(`${this.#url}/v1/artifacts/${digest}`, {
      method: 'PATCH',
      body,
      headers: {
        'content-type': 'application/octet-stream',
        'upload-offset': '0',
        'upload-length': String(body.length),
      },
    });
    await this.ask('POST', `/v1/models/${model}/versions`, {
      import: { project: 'vision', version: '1.0', task_type: 'Tabular Regression' },
      inputs: [
        { name: 'sqft', type: 'float64' },
        { name: 'rooms', type: 'int64' },
      ],
      outputs: [{ name: 'price', type: 'float64' }],
      files: [{ path: 'weights.json', digest, bytes: body.length }],
    });
  }

  async deploy(group: string, model: string, engine: string, more: object = {}): Promise<ScalingGroupJson> {
    await this.ask('PUT', `/v1/scaling-groups/${group}`, {
      model,
      engine_selector: { project_name: 'vision', engine_name: engine },
      ...more,
    });
    return eventually(`${group} is ready`, async () => {
      const found: ScalingGroupJson = await this.ask('GET', `/v1/scaling-groups/${group}`);
      return found.state === 'ready' && found.replicas.ready > 0 ? found : undefined;
    });
  }

  predict(group: string, sqft: readonly number[]) {
    const columns = { sqft, rooms: sqft.map(() => 3) };
    return this.ask('POST', `/v1/functions/model.${group}/calls`, { columns }, { prefer: 'wait=60' });
  }
}

const engineImage = async (): Promise<void> => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-engine-'));
  const file = path.join(directory, 'Containerfile');
  const install = 'python3 -m ensurepip && python3 -m pip install --quiet --no-cache-dir fastapi uvicorn';
  // The build's context has no tests: what is small comes with the file.
  const engine = Buffer.from(readFileSync('test/fixtures/engines/fastapi_engine.py')).toString('base64');
  const write = `mkdir -p /app && python3 -c "import base64; open('/app/fastapi_engine.py', 'wb').write(base64.b64decode('${engine}'))"`;
  const start =
    '["sh", "-c", "exec python3 -m uvicorn --app-dir /app fastapi_engine:app --host 0.0.0.0 --port $PORT"]';
  writeFileSync(file, `ARG BASE\nFROM \${BASE}\nRUN ${install}\nRUN ${write}\nENTRYPOINT ${start}\n`);
  await buildImage(IMAGE, file, BASE);
  rmSync(directory, { recursive: true });
};

const REGISTRATION = {
  ...{ project: 'vision', version: '1', container_root_relative_base_url: '/{model_id}' },
  readiness_probe: { period_seconds: 0.2 },
};

describe.skipIf(reason !== null)('an engine that is an image', () => {
  const home = directoryHome();
  let server: SluiceServer;
  let client: Client;

  beforeAll(async () => {
    await makeBaseImage(BASE);
    await engineImage();
    server = await SluiceServer.start({ home, args: [`--container-args=${ARGS}`] });
    client = new Client(server.url);
    await client.import('House', 2);
  }, 120_000);

  afterAll(async () => {
    await server?.kill('SIGTERM');
    await home.remove();
    await podman('rmi', '--force', IMAGE, BASE);
  });

  it('serves an imported model in bulk, with its files mounted, and is replaced without a failed call', async () => {
    await client.ask('POST', '/v1/engines', { ...REGISTRATION, name: 'image', container_image_cpu: IMAGE });
    const group = await client.deploy('house', 'House', 'image', { max_batching_size: 500 });
    expect(group.replicas.details[0]?.place).toMatch(/^sluice-model\.house-0-/);
    const sqft = Array.from({ length: 5000 }, (_, i) => i / 4);
    const { status, result } = await client.predict('house', sqft);
    expect(status).toBe('completed');
    expect(result).toEqual(sqft.map((value) => value * 2 + 3));
    await client.import('House', 5);
    let isDone = false;
    const load = (async () => {
      while (!isDone) expect((await client.predict('house', [1])).status).toBe('completed');
    })();
    await client.deploy('house', 'House', 'image', { max_batching_size: 500 });
    await eventually(
      'the new version serves',
      async () => (await client.predict('house', [1])).result[0] === 8,
    );
    isDone = true;
    await load;
  });
});
