/** Models as real containers of podman, over HTTP: images with handlers, updates, crashes, limits, what a killed server left. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ScalingGroupJson } from '../../shared/wire/model-api.ts';
import { buildImage, podman, whyNoImages } from '../support/container.ts';
import { makeBaseImage } from '../support/container-base.ts';
import { directoryHome, eventually, SluiceServer } from '../support/sluice-process.ts';

const BASE = `localhost/sluice-containers-base:${process.pid}`;
/** The base with the packages of handlers, the reference worker's among them. */
const RUNTIME = `localhost/sluice-containers-runtime:${process.pid}`;
const ARGS =
  '--runtime runc --network host --cgroups=no-conmon --ulimit nofile=1024:1024 --ulimit nproc=1024:1024';
const SETTINGS = [
  `--container-args=${ARGS}`,
  `--container-python-image=${BASE}`,
  ...['--claims-max', '0', '--lease', '5s'],
];

const reason = await whyNoImages();
if (reason !== null) process.stderr.write(`Containers are not run and their test is skipped: ${reason}.\n`);

const HANDLER = `
import os
import pyarrow as pa
import pyarrow.compute as pc

def on_startup():
    global factor
    factor = float(open("/app/artifacts/factor.txt").read())
    print("factor", factor, os.environ.get("GREETING"), flush=True)

def handler(event, context):
    x = event["x"]
    if -1.0 in x.to_pylist(): os._exit(3)
    if -2.0 in x.to_pylist(): bytearray(900 * 2**20)
    return {"y": pc.multiply(x, factor)}
`;
const CLASS = `
import pyarrow.compute as pc

class Model:
    def load_model(self):
        self.factor = float(self.files["factor.txt"].read_text())

    def predict(self, df):
        return {"y": pc.multiply(df.to_arrow()["x"], self.factor)}
`;
const field = (name: string) => ({ name, type: 'float64', nullable: true });
const imageOf = (...lines: string[]) =>
  [`FROM ${RUNTIME}`, 'WORKDIR /app', 'COPY model.py ./', ...lines].join('\n');

class Groups {
  server: SluiceServer;

  constructor(server: SluiceServer) {
    this.server = server;
  }

  async ask(method: string, route: string, body?: unknown, headers: Record<string, string> = {}) {
    const response = await fetch(this.server.url + route, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, json: text === '' ? null : JSON.parse(text) };
  }

  async upload(name: string, text: string) {
    const body = Buffer.from(text);
    const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`;
    const { status } = await fetch(`${this.server.url}/v1/artifacts/${digest}`, {
      method: 'PATCH',
      body,
      headers: {
        'content-type': 'application/octet-stream',
        'upload-offset': '0',
        'upload-length': String(body.length),
      },
    });
    expect(status).toBeLessThan(300);
    return { path: name, digest, bytes: body.length };
  }

  /** A version of the model whose image holds the handler. */
  async register(model: string, factor: string, more: object): Promise<number> {
    const answer = await this.ask('POST', `/v1/models/${model}/versions`, {
      inputs: [field('x')],
      outputs: [field('y')],
      files: [await this.upload('factor.txt', factor)],
      ...more,
    });
    expect(answer.status, JSON.stringify(answer.json)).toBe(201);
    return answer.json.version;
  }

  async image(...lines: string[]) {
    return { containerfile: imageOf(...lines), context: [await this.upload('model.py', HANDLER)] };
  }

  async deploy(group: string, more: object): Promise<void> {
    const answer = await this.ask('PUT', `/v1/scaling-groups/${group}`, { backend: 'container', ...more });
    expect([200, 201], JSON.stringify(answer.json)).toContain(answer.status);
  }

  async group(group: string): Promise<ScalingGroupJson> {
    return (await this.ask('GET', `/v1/scaling-groups/${group}`)).json;
  }

  settled(group: string, version: number): Promise<ScalingGroupJson> {
    return eventually(`${group} serves version ${version}`, async () => {
      const found = await this.group(group);
      return found.state === 'ready' && found.version === version ? found : undefined;
    });
  }

  async predict(group: string, x: readonly number[]) {
    const route = `/v1/functions/model.${group}/calls`;
    const { json } = await this.ask('POST', route, { columns: { x } }, { prefer: 'wait=60' });
    if (json.result === undefined) throw new Error(JSON.stringify([json, await this.group(group)]));
    return json as {
      status: string;
      result: (number | null)[];
      errors: { from: number; code: string; message: string }[];
    };
  }

  async remove(group: string): Promise<void> {
    await eventually(`${group} is removed`, async () => {
      const { status } = await this.ask('DELETE', `/v1/scaling-groups/${group}?force=true`);
      return status === 204 || status === 404;
    });
  }
}

/** Names of the containers of a function that run. */
const containersOf = async (group: string): Promise<readonly string[]> => {
  const filter = ['--filter', `label=sluice.function=model.${group}`];
  return (await podman('ps', ...filter, '--format', '{{.Names}}')).split('\n').filter(Boolean);
};

/** What servers on this machine have built; some of it may be a developer's own. */
const builtImages = async (): Promise<readonly string[]> =>
  (await podman('images', '--quiet', '--filter', 'label=sluice.image=1')).split('\n').filter(Boolean);

const makeRuntime = async (): Promise<void> => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-runtime-'));
  const file = path.join(directory, 'Containerfile');
  const packages = ['grpcio', 'protobuf', 'pyarrow', 'chalk-remote-call-python'];
  const install = `python3 -m ensurepip && python3 -m pip install --quiet --no-cache-dir ${packages.join(' ')}`;
  writeFileSync(file, `ARG BASE\nFROM \${BASE}\nRUN ${install}\n`);
  await buildImage(RUNTIME, file, BASE);
  rmSync(directory, { recursive: true });
};

describe.skipIf(reason !== null)('containers', () => {
  const home = directoryHome();
  let groups: Groups;
  let before: readonly string[] = [];

  beforeAll(async () => {
    before = await builtImages();
    await makeBaseImage(BASE);
    await makeRuntime();
    groups = new Groups(await SluiceServer.start({ home, args: SETTINGS }));
  }, 120_000);

  afterAll(async () => {
    await groups?.server.kill('SIGTERM');
    await home.remove();
    const made = (await builtImages()).filter((image) => !before.includes(image));
    await podman('rmi', '--force', RUNTIME, BASE, ...made);
  });

  it('serve a handler of an image in bulk, with its files, variables and output', async () => {
    const version = await groups.register('linear', '2', { image: await groups.image(), handler: null });
    await groups.deploy('bulk', {
      ...{ model: 'linear', version, handler: 'model.handler', env: { GREETING: 'hello there' } },
      ...{ max_batching_size: 1000, scaling: { min_replicas: 2, max_replicas: 2 } },
    });
    const x = Array.from({ length: 20_000 }, (_, i) => i / 2);
    const { status, result, errors } = await groups.predict('bulk', x);
    expect([status, errors]).toEqual(['completed', []]);
    expect(result).toEqual(x.map((value) => value * 2));
    const group = await eventually('both are ready', async () => {
      const found = await groups.group('bulk');
      return found.replicas.ready === 2 ? found : undefined;
    });
    const places = group.replicas.details.map(({ place }) => place);
    expect((await containersOf('bulk')).toSorted()).toEqual(places.toSorted());
    const logs = await groups.ask('GET', '/v1/functions/model.bulk/logs');
    expect(JSON.stringify(logs.json)).toContain('factor 2.0 hello there');
  });

  it('go over to another version without a failed call', async () => {
    const version = await groups.register('linear', '3', { image: await groups.image(), handler: null });
    const seen = new Set<number>();
    let isDone = false;
    const load = (async () => {
      while (!isDone) {
        const { status, result } = await groups.predict('bulk', [1, 2]);
        expect([status, result[1]]).toEqual(['completed', result[0]! * 2]);
        seen.add(result[0]!);
      }
    })();
    await groups.deploy('bulk', {
      ...{ model: 'linear', version, handler: 'model.handler' },
      ...{ max_batching_size: 1000, scaling: { min_replicas: 2, max_replicas: 2 } },
    });
    await groups.settled('bulk', version);
    expect((await groups.predict('bulk', [1])).result).toEqual([3]);
    isDone = true;
    await load;
    expect([...seen].toSorted()).toEqual([2, 3]);
    await groups.remove('bulk');
    await eventually('its containers are gone', async () => (await containersOf('bulk')).length === 0);
  });

  it('that die or take too much memory cost the guilty row alone, and are named', async () => {
    const version = await groups.register('linear', '1', { image: await groups.image(), handler: null });
    const memory = 400 * 2 ** 20;
    await groups.deploy('frail', {
      ...{ model: 'linear', version, handler: 'model.handler', max_batching_size: 3 },
      resources: { cpu: 1, memory_bytes: memory, gpu: null },
    });
    const died = await groups.predict('frail', [1, -1, 2]);
    expect(died.result).toEqual([1, null, 2]);
    expect(died.errors).toMatchObject([{ from: 1, code: 'row_quarantined' }]);
    expect(died.errors[0]!.message).toMatch(/it left with code 3/);
    const ate = await groups.predict('frail', [-2]);
    expect(ate.errors).toMatchObject([{ from: 0, code: 'row_quarantined' }]);
    expect(ate.errors[0]!.message).toMatch(/memory=400 MiB/);
    await groups.remove('frail');
  });

  it('run images of the reference worker unchanged, on a port that is free', async () => {
    const image = await groups.image(
      'ENV PYTHONPATH=/app',
      'ENTRYPOINT ["chalk-remote-call"]',
      ['CMD ["--handler", "model.handler", "--on-startup", "model.on_startup", "--port", "8080"]'].join(),
    );
    const version = await groups.register('reference', '5', { image, handler: null });
    await groups.deploy('reference', { model: 'reference', version });
    expect((await groups.predict('reference', [1, 2])).result).toEqual([5, 10]);
    await groups.remove('reference');
  });

  it('serve a class in the image that it was registered with', async () => {
    const version = await groups.register('class-image', '6', {
      image: { reference: RUNTIME },
      handler: { file: 'model.py', attribute: 'Model' },
      source: [{ path: 'model.py', content: Buffer.from(CLASS).toString('base64') }],
    });
    await groups.deploy('class-image', { model: 'class-image', version });
    expect((await groups.predict('class-image', [1, 2])).result).toEqual([6, 12]);
    await groups.remove('class-image');
  });

  it('serve a class in an image that is made for it, and leave nothing behind a server that is killed', async () => {
    const version = await groups.register('class', '7', {
      handler: { file: 'model.py', attribute: 'Model' },
      source: [{ path: 'model.py', content: Buffer.from(CLASS).toString('base64') }],
    });
    await groups.deploy('class', { model: 'class', version });
    expect((await groups.predict('class', [1, 2])).result).toEqual([7, 14]);
    const [left] = await containersOf('class');
    await groups.server.kill('SIGKILL');
    expect(await containersOf('class')).toEqual([left]);
    groups.server = await SluiceServer.start({ home, args: SETTINGS });
    expect((await groups.predict('class', [3])).result).toEqual([21]);
    const now = await containersOf('class');
    expect(now).toHaveLength(1);
    expect(now).not.toContain(left);
    await groups.remove('class');
  });

  it.each([
    [
      { reference: 'localhost/sluice-no-such-image:1' },
      /localhost\/sluice-no-such-image:1 is not on this machine/,
    ],
    [
      { containerfile: `FROM ${BASE}\nRUN echo spoiled && exit 3`, context: [] },
      /could not be built:[\s\S]*spoiled/,
    ],
    [
      { containerfile: `FROM ${BASE}\nENTRYPOINT ["sh", "-c", "echo no weights; exit 4"]`, context: [] },
      /code 4[\s\S]*no weights/,
    ],
    [{ containerfile: `FROM ${BASE}\nENTRYPOINT ["/no/program"]`, context: [] }, /no\/program/],
  ])('that cannot start say why: %j', async (image, why) => {
    const version = await groups.register('broken', '1', { image, handler: null });
    await groups.deploy('broken', { model: 'broken', version });
    await eventually(`the reason is told: ${why}`, async () =>
      why.test((await groups.group('broken')).reason ?? ''),
    );
    await groups.remove('broken');
  });
});
