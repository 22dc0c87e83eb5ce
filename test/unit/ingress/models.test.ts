import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { REGISTRATION } from '../../support/model-registration.ts';
import { type Answer, type Rig, startRig } from './rig.ts';

let rig: Rig;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-models-'));
  rig = await startRig({ artifacts: directory });
});
afterAll(async () => {
  await rig.stop();
  rmSync(directory, { recursive: true, force: true });
});

const send = (
  method: string,
  route: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> =>
  rig.ask(route, {
    method,
    ...(body === undefined
      ? { headers }
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }),
  });

const register = (model: string, more: object = {}, headers: Record<string, string> = {}) =>
  send('POST', `/v1/models/${model}/versions`, { ...REGISTRATION, ...more }, headers);

const upload = async (text: string) => {
  const bytes = Buffer.from(text);
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const headers = {
    'content-type': 'application/octet-stream',
    'upload-offset': '0',
    'upload-length': String(bytes.length),
  };
  const { status } = await rig.ask(`/v1/artifacts/${digest}`, { method: 'PATCH', body: bytes, headers });
  expect(status).toBe(204);
  return { digest, bytes: bytes.length };
};

describe('a model version', () => {
  it('is registered with its files, shown, and listed without its source', async () => {
    const weights = await upload('weights of one');
    const files = [{ path: 'model/weights.bin', ...weights }];
    const made = await register('house', {
      files,
      ...{ dependencies: ['scikit-learn==1.7'], interpreter: '/usr/bin/python3', loader: { kind: 'skops' } },
      ...{ metadata: { author: 'zoë' }, stage: 'staging', aliases: ['production', 'production'] },
    });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/models/house/versions/1');
    const whole = {
      ...REGISTRATION,
      ...{ model: 'house', version: 1, files, dependencies: ['scikit-learn==1.7'] },
      ...{ interpreter: '/usr/bin/python3', loader: { kind: 'skops' }, metadata: { author: 'zoë' } },
      ...{ image: null, stage: 'staging', aliases: ['production'], used_by: [] },
      created_at: expect.stringMatching(/Z$/),
    };
    expect(made.json).toEqual(whole);
    for (const version of ['1', 'latest', 'production'])
      expect((await send('GET', `/v1/models/house/versions/${version}`)).json).toEqual(whole);
    const { json } = await send('GET', '/v1/models/house/versions');
    const { source: _, ...listed } = whole;
    expect(json.versions).toEqual([listed]);
    const model = await send('GET', '/v1/models/house');
    expect(model.json).toMatchObject({
      ...{ name: 'house', description: '', latest_version: 1, versions: [1], aliases: { production: 1 } },
    });
    // OpenAI's clients read members of their own on the same route.
    const { id, object, created, owned_by, ...registered } = model.json;
    expect([id, object, Number.isInteger(created), owned_by]).toEqual(['house', 'model', true, 'sluice']);
    expect((await send('GET', '/v1/models')).json.models).toContainEqual(registered);
  });

  it('gets the next number each time, also when many come at once', async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => register('crowd')));
    const numbers = answers.map(({ json }) => json.version).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
    const { json } = await send('GET', '/v1/models/crowd/versions?limit=3&after=11');
    expect(json.versions.map(({ version }: { version: number }) => version)).toEqual([10, 9, 8]);
  });

  it('is registered once for an idempotency key, also when it comes twice at once', async () => {
    const key = { 'idempotency-key': 'abc' };
    const [first, second] = await Promise.all([register('once', {}, key), register('once', {}, key)]);
    expect([first.status, second.status].sort()).toEqual([200, 201]);
    expect([first.json.version, second.json.version]).toEqual([1, 1]);
    const third = await register('once', {}, key);
    expect([third.status, third.json]).toEqual([200, first.json]);
    const other = await register('once', { stage: 'x' }, key);
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_mismatch']);
    expect((await register('once')).json.version).toBe(2);
    // Without the version that it made, the key makes one again.
    await send('DELETE', '/v1/models/once/versions/1');
    expect((await register('once', {}, key)).json.version).toBe(3);
  });

  it('names only artifacts that are whole, with their sizes', async () => {
    const missing = `sha256:${'0'.repeat(64)}`;
    const none = await register('files', { files: [{ path: 'a', digest: missing, bytes: 1 }] });
    expect(none.json).toMatchObject({
      status: 422,
      code: 'invalid_model',
      field: 'files[0].digest',
      digest: missing,
    });
    const there = await upload('some bytes');
    const wrong = await register('files', {
      files: [
        { path: 'a', ...there },
        { path: 'b', ...there, bytes: 5 },
      ],
    });
    expect(wrong.json).toMatchObject({ code: 'invalid_model', field: 'files[1].bytes' });
    const context = await register('files', {
      image: { containerfile: 'FROM scratch', context: [{ path: 'a', digest: missing, bytes: 1 }] },
    });
    expect(context.json).toMatchObject({ code: 'invalid_model', field: 'image.context[0].digest' });
    expect((await send('GET', '/v1/models/files')).status).toBe(404);
    const image = { containerfile: 'FROM scratch', context: [{ path: 'a', ...there }] };
    expect((await register('files', { image, handler: null, source: [] })).status).toBe(201);
  });

  it('changes in stage and metadata only', async () => {
    await register('staged', { metadata: { a: 'b' } });
    const at = '/v1/models/staged/versions/1';
    expect((await send('PATCH', at, { stage: 'live' })).json).toMatchObject({
      stage: 'live',
      metadata: { a: 'b' },
    });
    expect((await send('PATCH', at, { stage: null, metadata: {} })).json).toMatchObject({
      stage: null,
      metadata: {},
    });
    for (const [body, field] of [
      [{ inputs: [] }, 'inputs'],
      [{}, 'stage'],
      [{ stage: 5 }, 'stage'],
      [{ stage: 'two words' }, 'stage'],
      [{ metadata: { a: 5 } }, 'metadata.a'],
    ] as const)
      expect((await send('PATCH', at, body)).json).toMatchObject({
        status: 422,
        code: 'invalid_model',
        field,
      });
  });

  it('is compared with another', async () => {
    const [one, two] = [await upload('one'), await upload('two')];
    await register('pair', {
      files: [
        { path: 'kept', ...one },
        { path: 'changed', ...one },
        { path: 'gone', ...one },
      ],
      metadata: { a: '1', b: '2' },
    });
    await register('pair', {
      files: [
        { path: 'changed', ...two },
        { path: 'kept', ...one },
        { path: 'new', ...two },
      ],
      source: [{ path: 'model.py', content: '' }],
      metadata: { b: '2', a: '1' },
      dependencies: ['numpy'],
    });
    const { json } = await send('GET', '/v1/models/pair/compare?from=1&to=latest');
    expect(json).toMatchObject({ from: 1, to: 2 });
    expect(json.differences).toEqual([{ field: 'dependencies', from: [], to: ['numpy'] }]);
    expect(json.files).toEqual([
      { path: 'changed', change: 'changed', from: one.digest, to: two.digest },
      { path: 'gone', change: 'removed', from: one.digest, to: null },
      { path: 'new', change: 'added', from: null, to: two.digest },
    ]);
    expect(json.source).toMatchObject([{ path: 'model.py', change: 'changed' }]);
    expect((await send('GET', '/v1/models/pair/compare?from=1')).json).toMatchObject({
      status: 400,
      field: 'to',
    });
    expect((await send('GET', '/v1/models/pair/compare?from=1&to=9')).json.code).toBe('model_not_found');
  });

  it('goes, with its aliases, and its number never comes again', async () => {
    for (const _ of [1, 2, 3]) await register('gone');
    await send('PUT', '/v1/models/gone/aliases/old', { version: 1 });
    expect((await send('DELETE', '/v1/models/gone/versions/1')).status).toBe(204);
    expect((await send('DELETE', '/v1/models/gone/versions/1')).json.code).toBe('model_not_found');
    expect((await send('GET', '/v1/models/gone')).json).toMatchObject({ versions: [2, 3], aliases: {} });
    const both = await Promise.all([1, 2].map(() => send('DELETE', '/v1/models/gone')));
    expect(both.map(({ status }) => status).sort()).toEqual([204, 404]);
    for (const route of ['', '/versions', '/versions/2', '/compare?from=2&to=3'])
      expect((await send('GET', `/v1/models/gone${route}`)).json.code).toBe('model_not_found');
    expect((await send('GET', '/v1/models')).json.models).not.toContainEqual(
      expect.objectContaining({ name: 'gone' }),
    );
    await send('PATCH', '/v1/models/gone', { description: 'x' });
    expect((await register('gone')).json.version).toBe(4);
    expect((await send('GET', '/v1/models/gone')).json).toMatchObject({ versions: [4], description: '' });
  });
});

describe('an alias', () => {
  it('points to a version, moves, and goes', async () => {
    for (const _ of [1, 2]) await register('alias');
    const at = '/v1/models/alias/aliases/production';
    expect((await send('PUT', at, { version: 1 })).json.aliases).toEqual({ production: 1 });
    expect((await send('PUT', at, { version: 2 })).json.aliases).toEqual({ production: 2 });
    expect((await send('GET', '/v1/models/alias/versions/production')).json.version).toBe(2);
    expect((await send('PUT', at, { version: 3 })).json.code).toBe('model_not_found');
    expect((await send('DELETE', at)).json.aliases).toEqual({});
    expect((await send('DELETE', at)).json.code).toBe('model_not_found');
    expect((await send('DELETE', '/v1/models/alias/aliases/constructor')).json.code).toBe('model_not_found');
    expect((await send('GET', '/v1/models/alias/versions/constructor')).json.code).toBe('model_not_found');
  });

  it.each(['latest', '1', '1a', '-a', 'a%20b', 'ü', 'a'.repeat(65)])('cannot be %s', async (alias) => {
    await register('words');
    const { status, json } = await send('PUT', `/v1/models/words/aliases/${alias}`, { version: 1 });
    expect([status, json.code]).toEqual([422, 'invalid_model']);
  });
});

describe('a description', () => {
  it('is kept, and has a limit', async () => {
    await register('described');
    const { json } = await send('PATCH', '/v1/models/described', { description: 'Häuser\nund mehr 🏠' });
    expect(json.description).toBe('Häuser\nund mehr 🏠');
    for (const description of [5, null, 'x'.repeat(10_001), { a: 1 }])
      expect((await send('PATCH', '/v1/models/described', { description })).json.field).toBe('description');
  });
});

describe('a registration', () => {
  const column = { name: 'x', type: 'float64' };
  it.each([
    ['inputs', { inputs: undefined }],
    ['inputs', { inputs: [] }],
    ['inputs', { inputs: 'x' }],
    ['inputs', { inputs: { 0: column } }],
    ['inputs[0]', { inputs: [5] }],
    ['inputs[0].name', { inputs: [{ name: 5, type: 'float64' }] }],
    ['inputs[0].type', { inputs: [{ name: 'x', type: 'double' }] }],
    ['inputs[1].name', { inputs: [column, column] }],
    ['inputs[0].comment', { inputs: [{ ...column, comment: '' }] }],
    ['inputs', { inputs: Array.from({ length: 1001 }, (_, i) => ({ name: `x${i}`, type: 'int8' })) }],
    ['outputs', { outputs: [] }],
    ['outputs[1].name', { outputs: [column, column] }],
    ['outputs[0].type', { outputs: [{ name: 'x', type: 'any' }] }],
    [
      'outputs[0].type',
      { outputs: [{ name: 'x', type: { list: { name: 'item', type: 'any', nullable: true } } }] },
    ],
    ['handler', { handler: null }],
    ['handler', { handler: 'model.py:Model' }],
    ['handler.file', { handler: { file: 'other.py', attribute: 'M' } }],
    ['source', { source: [] }],
    ['source', { source: { 'model.py': '' } }],
    ['source[0].path', { source: [{ path: '../model.py', content: '' }] }],
    ['source[0].path', { source: [{ path: 'a/../../model.py', content: '' }] }],
    ['source[0].path', { source: [{ path: '/etc/passwd', content: '' }] }],
    ['source[0].path', { source: [{ path: '.', content: '' }] }],
    ['source[0].path', { source: [{ path: 'a\nb', content: '' }] }],
    ['source[0].path', { source: [{ path: 'x'.repeat(256), content: '' }] }],
    ['source[0].path', { source: [{ path: `${'d/'.repeat(40)}x`, content: '' }] }],
    ['source[0].content', { source: [{ path: 'model.py', content: 'é' }] }],
    ['files', { files: 5 }],
    ['files[0].path', { files: [{ path: '..', digest: `sha256:${'0'.repeat(64)}`, bytes: 1 }] }],
    ['files[0].path', { files: [{ path: 'a\\..\\b', digest: `sha256:${'0'.repeat(64)}`, bytes: 1 }] }],
    ['files[0].digest', { files: [{ path: 'a', digest: '0'.repeat(64), bytes: 1 }] }],
    ['files[0].digest', { files: [{ path: 'a', digest: `sha256:${'A'.repeat(64)}`, bytes: 1 }] }],
    ['files[0].bytes', { files: [{ path: 'a', digest: `sha256:${'0'.repeat(64)}`, bytes: -1 }] }],
    ['files[0].bytes', { files: [{ path: 'a', digest: `sha256:${'0'.repeat(64)}`, bytes: 1.5 }] }],
    ['files[0].mode', { files: [{ path: 'a', digest: `sha256:${'0'.repeat(64)}`, bytes: 1, mode: 7 }] }],
    ['files', { files: Array.from({ length: 10_001 }, (_, i) => ({ path: `f${i}` })) }],
    [
      'files',
      {
        files: ['a', 'a/b'].map((name) => ({ path: name, digest: `sha256:${'0'.repeat(64)}`, bytes: 1 })),
      },
    ],
    ['loader', { loader: [] }],
    ['loader', { loader: { big: 'x'.repeat(2 ** 20) } }],
    ['dependencies[0]', { dependencies: [''] }],
    ['dependencies[0]', { dependencies: ['-r /etc/passwd'] }],
    ['dependencies[0]', { dependencies: ['numpy\n--index-url=x'] }],
    ['dependencies', { dependencies: 'numpy' }],
    ['interpreter', { interpreter: 5 }],
    ['image', { image: {} }],
    ['image', { image: { reference: 'a', containerfile: 'b' } }],
    ['image.reference', { image: { reference: '--rm' } }],
    ['image.context', { image: { reference: 'a', context: [] } }],
    ['metadata', { metadata: [] }],
    ['metadata.a', { metadata: { a: null } }],
    ['metadata', { metadata: { a: 'x'.repeat(70_000) } }],
    ['stage', { stage: 'x'.repeat(65) }],
    ['aliases[0]', { aliases: ['latest'] }],
    ['aliases[1]', { aliases: ['a', '7'] }],
    ['aliases', { aliases: 'a' }],
    ['version', { version: 7 }],
    ['__proto__', JSON.parse('{"__proto__": {}}')],
  ])('with a wrong %s is refused by name', async (field, more) => {
    const { status, json } = await register('wrong', more);
    expect([status, json.code, json.field]).toEqual([422, 'invalid_model', field]);
  });

  it('that is refused leaves nothing', async () => {
    expect((await send('GET', '/v1/models/wrong')).status).toBe(404);
  });

  it.each([
    '..',
    '%2e%2e',
    '.',
    '1a',
    'a%2Fb',
    'a%20b',
    'a%00',
    'ü',
    '%F0%9F%8F%A0',
    'a'.repeat(101),
    '-a',
    '%5c..',
  ])('cannot be of the model %s', async (name) => {
    const { status, json } = await register(name);
    expect([404, 405, 422]).toContain(status);
    expect(['invalid_model', 'not_found', 'method_not_allowed']).toContain(json.code);
    for (const [method, route] of [
      ['GET', ''],
      ['DELETE', ''],
      ['GET', '/versions/1'],
    ] as const)
      expect((await send(method, `/v1/models/${name}${route}`)).status).toBeGreaterThanOrEqual(400);
  });

  it('of ten megabytes of names is refused in one line', async () => {
    const huge = 'x'.repeat(10 * 2 ** 20);
    for (const body of [
      { ...REGISTRATION, [huge]: 1 },
      { ...REGISTRATION, stage: huge },
      { ...REGISTRATION, aliases: [huge] },
      { ...REGISTRATION, inputs: [{ name: 'x', type: huge }] },
      { ...REGISTRATION, inputs: [{ name: huge, type: 'int8' }] },
      { ...REGISTRATION, files: [{ path: huge, digest: huge, bytes: 1 }] },
      { ...REGISTRATION, metadata: { [huge]: 'x' } },
    ]) {
      const { status, text } = await send('POST', '/v1/models/huge/versions', body);
      expect(status).toBe(422);
      expect(text.length).toBeLessThan(10_000);
    }
    const deep = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
    const nested = await rig.post(
      '/v1/models/huge/versions',
      JSON.stringify({ ...REGISTRATION, loader: 0 }).replace('"loader":0', `"loader":${deep}`),
    );
    expect(nested.json.field).toBe('loader');
  });

  it('is not taken for what it is not', async () => {
    const at = '/v1/models/house/versions';
    for (const [body, status] of [
      ['', 400],
      ['[]', 400],
      ['null', 400],
      ['{', 400],
    ] as const) {
      const answer = await rig.post(at, body);
      expect(answer.status).toBe(status);
    }
    const typed = await rig.post(at, '{}', { 'content-type': 'text/plain' });
    expect(typed.status).toBe(415);
    expect((await send('POST', `${at}?force=1`, REGISTRATION)).json.field).toBe('force');
    for (const query of ['limit=0', 'limit=101', 'limit=x', 'after=0', 'after=a', 'cursor=1'])
      expect((await send('GET', `${at}?${query}`)).status).toBe(400);
  });

  it.each(['0', '-1', '1.5', '1e3', '99999999999', 'x'.repeat(65), '%F0%9F%8F%A0'])(
    'has no version %s',
    async (version) => {
      await register('few');
      const { json } = await send('GET', `/v1/models/few/versions/${version}`);
      expect(json.code).toBe('model_not_found');
    },
  );
});

describe('the models in OpenAPI', () => {
  it('have every route, with its body and its answers', async () => {
    const { paths } = (await rig.ask('/openapi.json')).json;
    const of = (route: string) => Object.keys(paths[route] ?? {}).sort();
    expect(of('/v1/models')).toEqual(['get']);
    expect(of('/v1/models/{model}')).toEqual(['delete', 'get', 'patch']);
    expect(of('/v1/models/{model}/versions')).toEqual(['get', 'post']);
    expect(of('/v1/models/{model}/versions/{version}')).toEqual(['delete', 'get', 'patch']);
    expect(of('/v1/models/{model}/compare')).toEqual(['get']);
    expect(of('/v1/models/{model}/aliases/{alias}')).toEqual(['delete', 'put']);
    expect(of('/v1/scaling-groups')).toEqual(['get']);
    expect(of('/v1/scaling-groups/{name}')).toEqual(['delete', 'get', 'patch', 'put']);
    expect(of('/v1/scaling-groups/{name}/rollback')).toEqual(['post']);
    const { post } = paths['/v1/models/{model}/versions'];
    expect(Object.keys(post.requestBody.content['application/json'].schema.properties)).toContain('loader');
    expect(Object.keys(post.responses)).toEqual(
      expect.arrayContaining(['200', '201', '400', '401', '403', '404', '409', '413', '422']),
    );
  });
});
