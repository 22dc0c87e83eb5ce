import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEPLOYMENT, REGISTRATION } from '../../support/model-registration.ts';
import { type Answer, type Rig, spec, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig({ ingressThreads: '2' });
  for (const _ of [1, 2]) await register('house');
});
afterAll(() => rig.stop());

const send = (method: string, route: string, body?: unknown): Promise<Answer> =>
  rig.ask(route, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
const register = (model: string, more: object = {}) =>
  rig.post(`/v1/models/${model}/versions`, { ...REGISTRATION, ...more });
const deploy = (group: string, more: object = {}) =>
  send('PUT', `/v1/scaling-groups/${group}`, { ...DEPLOYMENT, ...more });
const functionOf = (group: string) => send('GET', `/v1/functions/model.${group}`);
const rows = { columns: { sqft: [1, null], rooms: [2, 3] } };

describe('a scaling group', () => {
  it('is a function that can be called at once, on every thread', async () => {
    const made = await deploy('one');
    expect([made.status, made.headers.get('location')]).toEqual([201, '/v1/scaling-groups/one']);
    expect(made.json).toMatchObject({
      ...{ name: 'one', function: 'model.one', model: 'house', version: 2, requested_version: null },
      ...{ backend: 'process', state: 'starting', paused: false, update: null, env: {} },
      replicas: { ready: 0, starting: 0, failed: 0, details: [] },
      scaling: {
        ...{ min_replicas: 1, max_replicas: 1, target_rows: null, target_wait_ms: null },
        ...{ target_cpu_percent: null, scale_down_ms: 300_000, idle_ms: 60_000 },
      },
      resources: { cpu: null, memory_bytes: null, gpu: null },
      ...{ inputs: REGISTRATION.inputs, outputs: REGISTRATION.outputs },
      ...{ max_batching_size: 1000, max_buffer_duration: 10, max_batch_bytes: 64 * 2 ** 20 },
      ...{ isolation: 'bisect', call_timeout_ms: 300_000, ready_timeout_ms: 900_000 },
      events: [{ kind: 'deployed', text: 'version 2 of house' }],
    });
    const calls = await Promise.all(
      Array.from({ length: 16 }, () => rig.post('/v1/functions/model.one/calls', rows)),
    );
    expect(new Set(calls.map(({ status }) => status))).toEqual(new Set([202]));
    const { json } = await functionOf('one');
    expect(json.spec).toMatchObject({
      ...{ runtime: 'python', input_mode: 'table', inputs: REGISTRATION.inputs },
      output: { type: 'float64', nullable: true },
      model: { name: 'house', version: 2, files: [], loader: null },
    });
    expect((await send('GET', '/v1/scaling-groups')).json.scaling_groups).toContainEqual(
      expect.objectContaining({ name: 'one' }),
    );
  });

  it('is named to who calls it by its own name, on every thread', async () => {
    await deploy('short');
    const detail =
      'There is no function "short"; there is a scaling group of this name, called as model.short.';
    for (let ask = 0; ask < 8; ask++) {
      const { status, json } = await rig.post('/v1/functions/short/calls', rows);
      expect([status, json.code, json.detail]).toEqual([404, 'function_not_found', detail]);
      // Whoever has deployed it is not told to deploy it.
      expect(json.fix).toBe('Use that name, or list with `sluice functions`.');
    }
    expect((await send('GET', '/v1/functions/short')).json.detail).toBe(detail);
    for (const name of ['shorter', `a${'b'.repeat(200)}`])
      expect((await rig.post(`/v1/functions/${name}/calls`, rows)).json.detail).toMatch(
        /^There is no function "[^"]*"\.$/,
      );
  });

  it('answers several columns as a struct, and makes an environment of dependencies', async () => {
    const outputs = ['a', 'b'].map((name) => ({ name, type: 'float64', nullable: true }));
    await register('wide', { outputs, dependencies: ['numpy', 'pandas'], interpreter: '/usr/bin/python3' });
    await deploy('wide', { model: 'wide', env: { A: 'b' } });
    const { json } = await functionOf('wide');
    expect(json.spec.output).toEqual({ type: { struct: outputs }, nullable: true });
    expect(json.spec.environment).toEqual({
      ...{ base: null, steps: [{ pip_install: ['numpy', 'pandas'] }], env: { A: 'b' } },
      ...{ isolated: true, interpreter: '/usr/bin/python3' },
    });
  });

  it('of an image runs as a container, with batches that fit into its messages', async () => {
    await register('boxed', { image: { reference: 'models/boxed:1' }, handler: null, source: [] });
    const start = {
      handler: 'model.handler',
      on_startup: 'model.on_startup',
      entrypoint: ['serve'],
      port: 9000,
    };
    const made = await deploy('boxed', { model: 'boxed', ...start });
    expect(made.json).toMatchObject({ backend: 'container', max_batch_bytes: 16 * 2 ** 20 });
    expect(made.json).toMatchObject({ ...start, image: null, skip_artifacts: false });
    const other = { image: { reference: 'models/boxed:2' }, skip_artifacts: true };
    expect((await deploy('reboxed', { model: 'boxed', ...other })).json).toMatchObject(other);
    const { json } = await functionOf('boxed');
    expect(json.spec).toMatchObject({
      ...{ runtime: 'container', backend: 'container' },
      container: { image: { reference: 'models/boxed:1' }, ...start },
    });
    expect(json.spec.handler).toBeUndefined();
    const process = await deploy('boxed', { model: 'boxed', backend: 'process' });
    expect(process.json).toMatchObject({ status: 422, code: 'invalid_scaling_group', field: 'backend' });
    const large = await deploy('boxed', { model: 'boxed', max_batch_bytes: 32 * 2 ** 20 });
    expect(large.json).toMatchObject({ status: 422, field: 'max_batch_bytes' });
    const plain = await deploy('plain', { handler: 'model.handler' });
    expect(plain.json).toMatchObject({ status: 422, field: 'handler' });
    expect((await send('DELETE', '/v1/models/boxed')).json.code).toBe('model_deployed');
  });

  it('is updated beside what runs, and the update can be given up', async () => {
    const first = await deploy('moving', { version: 1, max_batching_size: 50 });
    expect([first.json.version, first.json.requested_version]).toEqual([1, 1]);
    const second = await deploy('moving', { version: 'latest' });
    expect([second.status, second.json.version, second.json.state]).toEqual([200, 1, 'updating']);
    expect(second.json.update).toMatchObject({ version: 2, reason: 'no worker has begun to start it' });
    expect(second.json.max_batching_size).toBe(50);
    const used = (await send('GET', '/v1/models/house/versions')).json.versions;
    for (const version of used) expect(version.used_by).toContain('moving');
    const same = await deploy('moving', { version: 2 });
    expect(same.json.update).toMatchObject({ version: 2, since: second.json.update.since });
    const back = await send('POST', '/v1/scaling-groups/moving/rollback');
    expect(back.json).toMatchObject({ version: 1, update: null });
    const kinds = back.json.events.map(({ kind }: { kind: string }) => kind);
    expect(kinds).toEqual(['deployed', 'updating', 'rolled_back']);
    expect((await functionOf('moving')).json.version).toBe(
      (await rig.store.registry.function('model.moving'))!.current.digest,
    );
    const none = await send('POST', '/v1/scaling-groups/moving/rollback');
    expect([none.status, none.json.code]).toEqual([409, 'no_earlier_version']);
  });

  it('that every worker refuses has failed, and says why', async () => {
    await deploy('refused', { resources: { gpu: 'nvidia-l4:1' } });
    const versionId = (await rig.store.registry.function('model.refused'))!.current.id;
    const reason =
      'this server refuses what it cannot honour: gpu="nvidia-l4:1": this machine has no NVIDIA device';
    const now = Date.now();
    // As workers/version-entry.ts tells it: without replicas.
    const report = { ...{ workerId: 'w', versionId, ready: 0, starting: 0, failed: 0 }, reason, ignored: [] };
    await rig.store.registry.report({ now, report: { ...report, until: now + 60_000 } });
    expect((await send('GET', '/v1/scaling-groups/refused')).json).toMatchObject({ state: 'failed', reason });
  });

  it('is listed page by page, by name', async () => {
    const groups = ['paged-a', 'paged-b', 'paged-c'];
    for (const group of groups) await deploy(group);
    const page = async (question: string): Promise<string[]> =>
      (await send('GET', `/v1/scaling-groups?${question}`)).json.scaling_groups.map(
        ({ name }: { name: string }) => name,
      );
    expect(await page('limit=2&after=paged-')).toEqual(['paged-a', 'paged-b']);
    expect(await page('limit=1&after=paged-b')).toEqual(['paged-c']);
    expect(await page('after=zzz')).toEqual([]);
    for (const question of ['limit=0', 'limit=101', 'after=', 'before=a'])
      expect((await send('GET', `/v1/scaling-groups?${question}`)).status, question).toBe(400);
  });

  it('is scaled without another version', async () => {
    await deploy('scaled');
    const before = (await functionOf('scaled')).json.version;
    const { json } = await send('PATCH', '/v1/scaling-groups/scaled', {
      scaling: { min_replicas: 2, max_replicas: 5 },
      max_batching_size: 7,
    });
    expect(json.scaling).toMatchObject({ min_replicas: 2, max_replicas: 5, idle_ms: 60_000 });
    expect(json).toMatchObject({ max_batching_size: 7, max_buffer_duration: 10 });
    expect(json.events.at(-1)).toMatchObject({
      kind: 'scaled',
      text: 'may have 2 to 5 replicas, before that 1 to 1; batching limits changed',
    });
    const record = (await rig.store.registry.function('model.scaled'))!;
    expect(record.scaling).toMatchObject({ minReplicas: 2, maxReplicas: 5 });
    expect(record.current.digest).toBe(before);
    const again = await deploy('scaled', { scaling: { max_replicas: 3 } });
    expect(again.json).toMatchObject({ update: null, scaling: { min_replicas: 1, max_replicas: 3 } });
    for (const [body, field] of [
      [{}, 'scaling'],
      [{ scaling: { min_replicas: 9 } }, 'scaling.max_replicas'],
      [{ scaling: { replicas: 1 } }, 'scaling.replicas'],
      [{ scaling: [] }, 'scaling'],
      [{ scaling: { min_replicas: '1' } }, 'scaling.min_replicas'],
      [{ version: 1 }, 'version'],
      [{ max_batching_size: 0 }, 'max_batching_size'],
    ] as const) {
      const answer = await send('PATCH', '/v1/scaling-groups/scaled', body);
      expect(answer.json).toMatchObject({ status: 422, code: 'invalid_scaling_group', field });
    }
  });

  it('keeps the alias that it was asked for', async () => {
    await send('PUT', '/v1/models/house/aliases/production', { version: 1 });
    const { json } = await deploy('aliased', { version: 'production' });
    expect(json).toMatchObject({ version: 1, requested_version: 'production' });
    await send('PUT', '/v1/models/house/aliases/production', { version: 2 });
    expect((await send('GET', '/v1/scaling-groups/aliased')).json.version).toBe(1);
    expect((await deploy('aliased', { version: 'production' })).json.update).toMatchObject({ version: 2 });
  });

  it('keeps its version from being deleted, until it is gone itself', async () => {
    await register('kept');
    await deploy('keeper', { model: 'kept' });
    for (const route of ['/v1/models/kept', '/v1/models/kept/versions/1']) {
      const { json } = await send('DELETE', route);
      expect(json).toMatchObject({ status: 409, code: 'model_deployed', scaling_groups: ['keeper'] });
    }
    expect((await send('DELETE', '/v1/scaling-groups/keeper')).status).toBe(204);
    expect((await send('DELETE', '/v1/models/kept')).status).toBe(204);
  });

  it('is not deleted while calls are unfinished, unless it is forced', async () => {
    await deploy('busy');
    const call = await rig.post('/v1/functions/model.busy/calls', rows);
    const refused = await send('DELETE', '/v1/scaling-groups/busy');
    expect([refused.status, refused.json.code]).toEqual([409, 'function_busy']);
    expect((await rig.post('/v1/functions/model.busy/calls', rows)).status).toBe(202);
    const both = await Promise.all([1, 2].map(() => send('DELETE', '/v1/scaling-groups/busy?force=true')));
    for (const { status } of both) expect([204, 404]).toContain(status);
    expect(both.map(({ status }) => status)).toContain(204);
    expect((await send('GET', '/v1/scaling-groups/busy')).json.code).toBe('scaling_group_not_found');
    expect((await functionOf('busy')).json.code).toBe('function_not_found');
    expect((await send('GET', `/v1/calls/${call.json.call_id}`)).json.status).toBe('cancelled');
    expect((await send('GET', '/v1/models/house/versions/2')).json.used_by).not.toContain('busy');
    expect((await deploy('busy')).status).toBe(201);
  });

  it('is paused and resumed as a function, and tells of it', async () => {
    await deploy('resting');
    await send('POST', '/v1/functions/model.resting/pause');
    await send('POST', '/v1/functions/model.resting/pause');
    const { json } = await send('GET', '/v1/scaling-groups/resting');
    expect(json.paused).toBe(true);
    await send('POST', '/v1/functions/model.resting/resume');
    const { events } = (await send('GET', '/v1/scaling-groups/resting')).json;
    expect(events.map(({ kind }: { kind: string }) => kind)).toEqual(['deployed', 'paused', 'resumed']);
  });

  it('has its function for itself', async () => {
    await deploy('own');
    const made = await rig.post('/v1/functions', { function: spec('model.other') });
    expect(made.json).toMatchObject({ status: 422, code: 'invalid_function', field: 'name' });
    const gone = await send('DELETE', '/v1/functions/model.own');
    expect(gone.json).toMatchObject({ status: 400, field: 'name' });
    expect((await functionOf('own')).status).toBe(200);
  });

  it('deployed by many at once ends with one of them', async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => deploy('crowd', { version: (i % 2) + 1 })),
    );
    for (const { status } of answers) expect([200, 201]).toContain(status);
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    const { json } = await send('GET', '/v1/scaling-groups/crowd');
    const version = json.update?.version ?? json.version;
    const users = (await send('GET', `/v1/models/house/versions/${version}`)).json.used_by;
    expect(users).toContain('crowd');
    await send('DELETE', '/v1/scaling-groups/crowd');
    for (const one of [1, 2])
      expect((await send('GET', `/v1/models/house/versions/${one}`)).json.used_by).not.toContain('crowd');
  });
});

describe('a deployment', () => {
  it.each([
    ['model', { model: undefined }],
    ['model', { model: '../house' }],
    ['model', { model: 5 }],
    ['version', { version: 0 }],
    ['version', { version: 1.5 }],
    ['version', { version: [1] }],
    ['version', { version: '' }],
    ['backend', { backend: 'lambda' }],
    ['scaling', { scaling: 5 }],
    ['scaling.min_replicas', { scaling: { min_replicas: -1 } }],
    ['scaling.max_replicas', { scaling: { max_replicas: 0 } }],
    ['scaling.max_replicas', { scaling: { min_replicas: 3, max_replicas: 2 } }],
    ['scaling.max_replicas', { scaling: { max_replicas: 1001 } }],
    ['scaling.target_rows', { scaling: { target_rows: 0 } }],
    ['scaling.idle_ms', { scaling: { idle_ms: 1.5 } }],
    ['scaling.target_cpu_percent', { scaling: { target_cpu_percent: 'x' } }],
    ['resources.cpu', { resources: { cpu: '1' } }],
    ['resources.memory_bytes', { resources: { memory_bytes: 0 } }],
    ['resources.gpu', { resources: { gpu: 't4:0' } }],
    ['resources.gpu', { resources: { gpu: 't4:65' } }],
    ['resources.gpu', { resources: { gpu: ':2' } }],
    ['resources.gpu', { resources: { gpu: 't4:2:3' } }],
    ['resources.gpu', { resources: { gpu: 2 } }],
    ['env.A-B', { env: { 'A-B': 'c' } }],
    ['env.A', { env: { A: 5 } }],
    ['env', { env: ['A=b'] }],
    ['image', { image: 'name:tag' }],
    ['handler', { handler: 'handler' }],
    ['on_startup', { on_startup: 'model:start' }],
    ['entrypoint', { entrypoint: 'serve' }],
    ['entrypoint', { entrypoint: [] }],
    ['port', { port: 0 }],
    ['port', { port: 70_000 }],
    ['skip_artifacts', { skip_artifacts: 'yes' }],
    ['ready_timeout_ms', { ready_timeout_ms: 999 }],
    ['max_batching_size', { max_batching_size: 0 }],
    ['max_buffer_duration', { max_buffer_duration: -1 }],
    ['retry.retries', { retry: { retries: -1 } }],
    ['isolation', { isolation: 'on' }],
    ['call_timeout_ms', { call_timeout_ms: 0 }],
    ['replicas', { replicas: 2 }],
  ])('with a wrong %s is refused by name', async (field, more) => {
    const { json } = await deploy('wrong', more);
    expect(json).toMatchObject({ status: 422, code: 'invalid_scaling_group', field });
  });

  it.each([{ model: 'nobody' }, { version: 99 }, { version: 'nowhere' }])(
    'of what is not there is 404 for %j',
    async (more) => {
      const { json } = await deploy('wrong', more);
      expect(json).toMatchObject({ status: 404, code: 'model_not_found' });
    },
  );

  it('that is refused leaves nothing, and claims nothing', async () => {
    expect((await send('GET', '/v1/scaling-groups/wrong')).status).toBe(404);
    expect((await functionOf('wrong')).status).toBe(404);
    for (const version of [1, 2])
      expect((await send('GET', `/v1/models/house/versions/${version}`)).json.used_by).not.toContain('wrong');
  });

  it.each(['1a', 'a%2Fb', 'a%20b', 'ü', 'a'.repeat(101), '%F0%9F%8F%A0'])(
    'cannot be of the group %s',
    async (name) => {
      const { status, json } = await deploy(name);
      expect([404, 422]).toContain(status);
      expect(['invalid_scaling_group', 'not_found']).toContain(json.code);
      for (const [method, route, body] of [
        ['GET', ''],
        ['PATCH', '', { scaling: { max_replicas: 2 } }],
        ['POST', '/rollback'],
        ['DELETE', ''],
      ] as const)
        expect((await send(method, `/v1/scaling-groups/${name}${route}`, body)).status).toBe(404);
    },
  );

  it('takes null for every default', async () => {
    const names = [
      ...[
        'version',
        'backend',
        'scaling',
        'resources',
        'env',
        'image',
        'handler',
        'on_startup',
        'entrypoint',
      ],
      ...['port', 'skip_artifacts', 'ready_timeout_ms', 'max_batching_size', 'max_buffer_duration'],
      ...['max_batch_bytes', 'retry', 'isolation', 'call_timeout_ms'],
    ];
    const nulls = await deploy('nulls', Object.fromEntries(names.map((name) => [name, null])));
    expect(nulls.status).toBe(201);
    const bare = await deploy('nulls');
    expect(bare.json.update).toBeNull();
  });
});

describe('with keys, models and groups', () => {
  it('are read with the scope call, and changed with deploy', async () => {
    const guarded = await startRig();
    const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });
    const root = (await guarded.post('/v1/keys', { name: 'root', scopes: ['admin'] })).json.secret;
    const keyOf = async (scope: string): Promise<string> =>
      (await guarded.post('/v1/keys', { name: scope, scopes: [scope] }, bearer(root))).json.secret;
    const [caller, deployer] = [await keyOf('call'), await keyOf('deploy')];
    const ask = async (secret: string, method: string, route: string, body?: object) => {
      const headers = { ...bearer(secret), ...(body ? { 'content-type': 'application/json' } : {}) };
      return (await guarded.ask(route, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) }))
        .status;
    };
    const versions = '/v1/models/house/versions';
    const group = '/v1/scaling-groups/g';
    expect(await ask(caller, 'POST', versions, REGISTRATION)).toBe(403);
    expect(await ask(deployer, 'POST', versions, REGISTRATION)).toBe(201);
    expect(await ask(deployer, 'PUT', group, DEPLOYMENT)).toBe(201);
    const readable = [
      '/v1/models',
      '/v1/models/house',
      versions,
      `${versions}/1`,
      '/v1/scaling-groups',
      group,
    ];
    for (const route of [...readable, '/v1/models/house/compare?from=1&to=1']) {
      expect(await ask(caller, 'GET', route)).toBe(200);
      expect(await ask(deployer, 'GET', route)).toBe(403);
      expect((await guarded.ask(route)).status).toBe(401);
    }
    for (const [method, route, body] of [
      ['PATCH', '/v1/models/house', { description: 'x' }],
      ['PATCH', `${versions}/1`, { stage: 'x' }],
      ['PUT', '/v1/models/house/aliases/a', { version: 1 }],
      ['DELETE', '/v1/models/house/aliases/a'],
      ['PUT', group, DEPLOYMENT],
      ['PATCH', group, { scaling: { max_replicas: 2 } }],
      ['POST', `${group}/rollback`],
      ['DELETE', group],
      ['DELETE', `${versions}/1`],
      ['DELETE', '/v1/models/house'],
    ] as const) {
      expect(await ask(caller, method, route, body)).toBe(403);
      expect([200, 204, 409]).toContain(await ask(deployer, method, route, body));
    }
    await guarded.stop();
  });
});
