/** What /openapi.json says of answers and headers, compared with real ones. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TypeJson } from '../../../shared/domain/function.ts';
import { REGISTRATION } from '../../support/model-registration.ts';
import { type Rig, settleAll, startRig, versionIdOf } from './rig.ts';

type Header = { readonly $ref?: string };
type Parameter = Header & { readonly in?: string; readonly name?: string; readonly schema?: object };
type Operation = {
  readonly parameters: readonly Parameter[];
  readonly responses: Readonly<Record<string, { readonly headers: Readonly<Record<string, Header>> }>>;
};
type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>;

let rig: Rig;
let directory: string;
let paths: Paths;
/** Of HTTP itself, and of every answer. */
const PLAIN = new Set([
  ...['content-type', 'content-length', 'date', 'connection', 'keep-alive', 'transfer-encoding'],
  ...['cache-control', 'x-content-type-options', 'x-accel-buffering'],
]);
const TEXT = { columns: { text: ['a'] } };
const VECTOR: TypeJson = { list: { name: 'item', type: 'float32', nullable: true } };
const BYTES = Buffer.from('artifact');
const ARTIFACT = `/v1/artifacts/sha256:${createHash('sha256').update(BYTES).digest('hex')}`;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-contract-'));
  rig = await startRig({ artifacts: directory });
  await rig.deploy('len');
  await rig.deploy('emb', { task: 'embedding', output: { type: VECTOR, nullable: true } });
  paths = (await rig.ask('/openapi.json')).json.paths;
});
afterAll(async () => {
  await rig.stop();
  rmSync(directory, { recursive: true, force: true });
});

const operationOf = (method: string, route: string): Operation => {
  const url = route.split('?', 1)[0]!;
  const template = Object.keys(paths).find((one) =>
    new RegExp(`^${one.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`).test(url),
  );
  return paths[template!]![method.toLowerCase()]!;
};

/** Asks, and compares the answer with what its operation describes. */
const ask = async (method: string, route: string, body?: unknown, headers: Record<string, string> = {}) => {
  const isRaw = body === undefined || body instanceof Uint8Array;
  const response = await fetch(rig.address + route, {
    method,
    headers: { ...(isRaw ? {} : { 'content-type': 'application/json' }), ...headers },
    body: (isRaw ? body : JSON.stringify(body)) as never,
  });
  const what = `${method} ${route} → ${response.status}`;
  const { responses } = operationOf(method, route);
  expect(responses, what).toHaveProperty(String(response.status));
  const described = Object.keys(responses[response.status]!.headers).map((name) => name.toLowerCase());
  for (const name of response.headers.keys()) if (!PLAIN.has(name)) expect(described, what).toContain(name);
  expect(response.headers.has('x-request-id'), what).toBe(true);
  return { status: response.status, headers: response.headers, text: await response.text() };
};

const settled = async <T>(name: string, asked: Promise<T>, value: unknown = 1, type: TypeJson = 'int64') => {
  const versionId = await versionIdOf(rig.store, name);
  let isDone = false;
  const end = (): void => {
    isDone = true;
  };
  asked.then(end, end);
  while (!isDone) {
    await settleAll(rig.store, versionId, () => ({ value }), type);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return asked;
};

describe('every header of an answer is described', () => {
  it('of calls, waited for, polled and refused', async () => {
    const calls = '/v1/functions/len/calls';
    const { status, text } = await ask('POST', calls, TEXT);
    expect(status).toBe(202);
    const route = `/v1/calls/${JSON.parse(text).call_id}`;
    expect((await ask('GET', `${route}/result`)).status).toBe(409);
    expect((await settled('len', ask('GET', `${route}/result?wait=30`))).status).toBe(200);
    expect((await settled('len', ask('POST', calls, TEXT, { prefer: 'wait=30' }))).status).toBe(200);
    expect((await ask('GET', route)).status).toBe(200);
    expect((await ask('POST', `${route}/acknowledge`)).status).toBe(204);
    expect((await ask('POST', calls, {})).status).toBe(400);
    expect((await ask('GET', '/v1/calls?limit=1')).status).toBe(200);
  });

  it('of inferences and of tasks', async () => {
    const inputs = [{ name: 'text', shape: [1], datatype: 'BYTES', data: ['a'] }];
    expect((await settled('len', ask('POST', '/v2/models/len/infer', { inputs }))).status).toBe(200);
    const binary = { inputs, parameters: { binary_data_output: true } };
    const answered = await settled('len', ask('POST', '/v2/models/len/infer', binary));
    expect(answered.headers.has('inference-header-content-length')).toBe(true);
    const asked = ask('POST', '/v1/embeddings', { model: 'emb', input: 'a' });
    expect((await settled('emb', asked, [0.5], VECTOR)).status).toBe(200);
    expect((await ask('POST', '/v1/embeddings', { model: 'none', input: 'a' })).status).toBe(404);
    expect((await ask('GET', '/v1/files')).status).toBe(200);
  });

  it('of artifacts', async () => {
    const piece = { 'upload-offset': '0', 'upload-length': '8', 'content-type': 'application/octet-stream' };
    expect((await ask('PATCH', ARTIFACT, BYTES, piece)).status).toBe(204);
    expect((await ask('HEAD', ARTIFACT)).status).toBe(200);
    expect((await ask('GET', ARTIFACT)).status).toBe(200);
    expect((await ask('GET', ARTIFACT, undefined, { range: 'bytes=0-1' })).status).toBe(206);
    expect((await ask('GET', ARTIFACT, undefined, { range: 'bytes=99-' })).status).toBe(416);
    expect((await ask('GET', ARTIFACT, undefined, { 'if-none-match': '*' })).status).toBe(304);
    expect((await ask('GET', ARTIFACT, undefined, { 'if-match': '"x"' })).status).toBe(412);
  });

  it('of what is made and removed, and of the server', async () => {
    expect((await ask('POST', '/v1/models/m/versions', REGISTRATION)).status).toBe(201);
    expect((await ask('DELETE', '/v1/models/m')).status).toBe(204);
    for (const route of ['/livez', '/readyz', '/metrics', '/v1/server', '/v2/health/ready'])
      expect((await ask('GET', route)).status, route).toBe(200);
  });

  it('of refusals for want of room', async () => {
    for (const [path, methods] of Object.entries(paths))
      for (const [method, { responses }] of Object.entries(methods))
        for (const status of ['429', '507'].filter((one) => one in responses))
          expect(responses[status]!.headers, `${method} ${path}`).toHaveProperty('retry-after');
  });
});

describe('every operation', () => {
  it('may fail, and is told of a head that is too large or too slow', () => {
    for (const [path, methods] of Object.entries(paths))
      for (const [method, { responses }] of Object.entries(methods))
        for (const status of ['408', '431', '500'])
          expect(responses, `${method} ${path}`).toHaveProperty(status);
  });

  it('with a parameter may have one that names nothing', () => {
    for (const [path, methods] of Object.entries(paths).filter(([url]) => url.includes('{')))
      for (const [method, { responses }] of Object.entries(methods))
        expect(responses, `${method} ${path}`).toHaveProperty('404');
  });

  it('that writes is told where there is no room', () => {
    for (const line of ['post /v1/functions', 'post /v1/functions/{name}/pause', 'post /v1/files']) {
      const [method, url] = line.split(' ');
      expect(paths[url!]![method!]!.responses, line).toHaveProperty('507');
    }
  });

  it('describes the headers that it looks at, with their bounds', () => {
    const names = (method: string, url: string): (string | undefined)[] =>
      operationOf(method, url).parameters.flatMap(({ in: place, name }) =>
        place === 'header' ? [name] : [],
      );
    const calls = '/v1/functions/len/calls';
    const every = [
      'Idempotency-Key',
      'Sluice-Priority',
      'Sluice-Lane',
      'Sluice-Deadline-Ms',
      'Sluice-Metadata',
    ];
    expect(names('POST', calls)).toEqual(expect.arrayContaining([...every, 'Prefer']));
    expect(names('POST', '/v1/embeddings')).toEqual(expect.arrayContaining(every));
    expect(names('POST', '/v2/models/len/infer')).toEqual(
      expect.arrayContaining([...every, 'Inference-Header-Content-Length']),
    );
    expect(names('GET', ARTIFACT)).toContain('Range');
    const { parameters } = operationOf('POST', calls);
    expect(parameters.find(({ name }) => name === 'Sluice-Priority')!.schema).toMatchObject({
      ...{ type: 'integer', minimum: -100, maximum: 100 },
    });
  });
});
