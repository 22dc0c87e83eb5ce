/** Engines over HTTP, the deployments that name them, and imported models. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENGINE, IMPORTED, SELECTOR } from '../../support/engine-registration.ts';
import { REGISTRATION } from '../../support/model-registration.ts';
import { type Answer, type Rig, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
  await rig.post('/v1/models/House_Price/versions', {
    import: {
      ...{ project: 'vision', summary: 'Prices', version: '1.0', task_type: 'Tabular Regression' },
      class_labels: { cheap: 0, dear: 1 },
    },
    ...{ inputs: REGISTRATION.inputs, outputs: REGISTRATION.outputs },
  });
  await rig.post('/v1/models/own/versions', REGISTRATION);
  await create({ name: 'plain' });
});
afterAll(() => rig.stop());

const send = (method: string, route: string, body?: unknown): Promise<Answer> =>
  rig.ask(route, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
const create = (more: object = {}) => rig.post('/v1/engines', { ...ENGINE, ...more });
let names = 0;
const fresh = () => {
  names += 1;
  return `engine-${names}`;
};
const deploy = (group: string, more: object = {}, selector: object = {}) =>
  send('PUT', `/v1/scaling-groups/${group}`, {
    ...{ model: 'House_Price', engine_selector: { ...SELECTOR, engine_name: 'plain', ...selector } },
    ...more,
  });
type Refused = [
  what: string,
  status: number,
  field: string,
  more: { selector?: object; [more: string]: unknown },
];
const specOf = async (group: string) => (await send('GET', `/v1/functions/model.${group}`)).json.spec;

describe('an engine', () => {
  it('has the defaults of Kubernetes, and is shown as it was registered', async () => {
    const name = fresh();
    const made = await create({ name });
    expect([made.status, made.headers.get('location')]).toEqual([
      201,
      `/v1/engines/vision/${name}/versions/1`,
    ]);
    const whole = {
      ...{ project: 'vision', name, version: '1', is_default: true, supports_multi_gpu: false },
      ...{ container_image_cpu: null, container_image_gpu: null, env: {}, entrypoint: null },
      ...{ command: ENGINE.command, port: 8080, container_root_relative_base_url: '' },
      readiness_probe: {
        ...{ path: null, port: null, initial_delay_seconds: 0, timeout_seconds: 1, period_seconds: 10 },
        ...{ success_threshold: 1, failure_threshold: 3 },
      },
      ...{ predictor_env_schema: [], enforce_predictor_env_schema: false, inference_protocol: null },
      ...{ used_by: [], created_at: expect.stringMatching(/Z$/) },
    };
    expect(made.json).toEqual(whole);
    for (const version of ['1', 'default'])
      expect((await send('GET', `/v1/engines/vision/${name}/versions/${version}`)).json).toEqual(whole);
    const again = await create({ name });
    expect([again.status, again.json]).toEqual([200, whole]);
    const other = await create({ name, port: 9000 });
    expect([other.status, other.json.code]).toEqual([409, 'engine_version_exists']);
  });

  it('is listed by project and name, page by page', async () => {
    for (const name of ['b', 'a', 'c']) await create({ project: 'listed', name });
    const names = async (query: string) =>
      (await send('GET', `/v1/engines?${query}`)).json.engines.map(({ name }: { name: string }) => name);
    expect(await names('project=listed')).toEqual(['a', 'b', 'c']);
    expect(await names('project=listed&limit=2')).toEqual(['a', 'b']);
    expect(await names('project=listed&after=listed/a')).toEqual(['b', 'c']);
    expect(await names('after=listed/b&limit=1')).toEqual(['c']);
    expect((await send('GET', '/v1/engines?after=%00')).json.code).toBe('invalid_request');
  });

  it('has a default that can be named, and goes when nothing runs it', async () => {
    const name = fresh();
    await create({ name });
    await create({ name, version: '2' });
    const at = `/v1/engines/vision/${name}`;
    const named = await send('PUT', `${at}/default`, { version: '2' });
    expect(named.json).toMatchObject({ default_version: '2', versions: ['1', '2'] });
    expect((await deploy('held', {}, { engine_name: name })).status).toBe(201);
    const refused = await send('DELETE', `${at}/versions/2`);
    expect([refused.status, refused.json.code, refused.json.scaling_groups]).toEqual([
      ...[409, 'engine_in_use'],
      ['held'],
    ]);
    expect((await send('DELETE', at)).status).toBe(409);
    expect((await send('DELETE', `${at}/versions/1`)).status).toBe(204);
    expect((await send('DELETE', '/v1/scaling-groups/held')).status).toBe(204);
    expect((await send('DELETE', at)).status).toBe(204);
    for (const [method, route] of [
      ...[['GET', at]],
      ...[['GET', `${at}/versions/2`]],
      ...[['DELETE', at]],
      ...[['PUT', `${at}/default`]],
      ['GET', '/v1/engines/-/..%2f..'],
    ] as const) {
      const { status, json } = await send(method, route, method === 'PUT' ? { version: '1' } : undefined);
      expect([method, route, status, json.code]).toEqual([method, route, 404, 'engine_not_found']);
    }
  });

  it('takes the other name of the protocol, and gives its models a path', async () => {
    const made = await create({ name: fresh(), inference_protocol: 'chariot-v2-kserve' });
    expect(made.json).toMatchObject({
      inference_protocol: 'oip-v2',
      container_root_relative_base_url: '/v2/models/{model_id}',
    });
    for (const protocol of [null, 'none'])
      expect((await create({ name: fresh(), inference_protocol: protocol })).json).toMatchObject({
        ...{ inference_protocol: null, container_root_relative_base_url: '' },
      });
  });

  it('listens where it is probed, unless it says otherwise', async () => {
    const probed = await create({ name: fresh(), readiness_probe: { port: 9000, period_seconds: 0.5 } });
    expect(probed.json).toMatchObject({ port: 9000, readiness_probe: { port: null, period_seconds: 0.5 } });
    const apart = await create({ name: fresh(), port: 8000, readiness_probe: { port: 9000 } });
    expect(apart.json).toMatchObject({ port: 8000, readiness_probe: { port: 9000 } });
  });
});

describe('a group with an engine', () => {
  it('is a function that runs it, with paths and variables in their place', async () => {
    const name = fresh();
    await create({
      ...{ name, inference_protocol: 'oip-v2', entrypoint: ['tritonserver'], command: ['--port', '{port}'] },
      ...{
        env: { LD_LIBRARY_PATH: '/opt/lib', THREADS: '1' },
        readiness_probe: { period_seconds: 2, path: '/health/{model_id}?x=1' },
      },
      container_root_relative_base_url: '/serve/{model_id}/',
      predictor_env_schema: [
        { name: 'THREADS', type: 'int', default_value: 4, display_text: 'Threads of the session' },
        { name: 'SCALE', type: 'float', default_value: '0.5' },
        { name: 'VERBOSE', type: 'bool' },
        { name: 'GREETING' },
      ],
    });
    const made = await deploy(
      'typed',
      { predictor_env_var: { VERBOSE: 'True', GREETING: 7, MORE: 'm' } },
      { engine_name: name, org_name: 'acme' },
    );
    expect(made.status, made.text).toBe(201);
    expect(made.json).toMatchObject({
      ...{ backend: 'process', model: 'House_Price', inputs: REGISTRATION.inputs },
      engine_selector: { org_name: 'acme', project_name: 'vision', engine_name: name, version: null },
      engine: {
        ...{ project: 'vision', name, version: '1' },
        predictor_env: { GREETING: '7', MORE: 'm', SCALE: '0.5', THREADS: '4', VERBOSE: 'true' },
      },
      predictor_env_var: { VERBOSE: 'True', GREETING: 7, MORE: 'm' },
    });
    expect(await specOf('typed')).toMatchObject({
      ...{ runtime: 'http', input_mode: 'table', output: { type: 'float64', nullable: true } },
      model: { name: 'House_Price', version: 1, files: [], loader: null },
      engine: {
        ...{ project: 'vision', name, version: '1', protocol: 'oip-v2', image: null, port: 8080 },
        command: ['tritonserver', '--port', '{port}'],
        base_path: '/serve/house_price',
        probe: {
          path: '/health/house_price?x=1',
          port: null,
          initial_delay_ms: 0,
          timeout_ms: 1000,
          period_ms: 2000,
        },
        ...{ model_id: 'House_Price', task_type: 'Tabular Regression', output: 'price' },
        env: {
          LD_LIBRARY_PATH: '/opt/lib',
          THREADS: '4',
          SCALE: '0.5',
          VERBOSE: 'true',
          GREETING: '7',
          MORE: 'm',
        },
      },
    });
    const rows = { columns: { sqft: [1, null], rooms: [2, 3] } };
    expect((await rig.post('/v1/functions/model.typed/calls', rows)).status).toBe(202);
    // One that is forgotten is no null.
    for (const body of [{ columns: { sqft: [1] } }, { rows: [{ sqft: 1 }, { sqft: 2 }] }]) {
      const { status, json } = await rig.post('/v1/functions/model.typed/calls', body);
      expect([status, json.detail]).toEqual([400, expect.stringContaining('column "rooms" is missing')]);
    }
    const sparse = { rows: [{ sqft: 1 }, { rooms: 2 }] };
    expect((await rig.post('/v1/functions/model.typed/calls', sparse)).status).toBe(202);
    expect((await rig.post('/v1/functions/model.typed/calls', { rows: [] })).status).toBe(202);
  });

  it('of a model without schemas takes any columns, and answers JSON', async () => {
    await rig.post('/v1/models/anything/versions', IMPORTED);
    await deploy('anything', { model: 'anything' });
    expect(await specOf('anything')).toMatchObject({
      inputs: null,
      output: { type: 'json', nullable: true },
    });
    const { status } = await rig.post('/v1/functions/model.anything/calls', {
      columns: { a: [1], b: ['x'] },
    });
    expect(status).toBe(202);
  });

  it('runs the image of the mode that its resources ask for', async () => {
    const gpu = (count: number) => ({ resources: { gpu: `nvidia-l4:${count}` } });
    const images = { container_image_cpu: 'r/cpu:1', container_image_gpu: 'r/gpu:1' };
    const engineOf = async (engine: object, deployment: object) => {
      const name = fresh();
      expect((await create({ name, command: null, ...engine })).status).toBe(201);
      const { status, json } = await deploy(name, deployment, { engine_name: name });
      return status === 201 ? (await specOf(name)).engine : json.field;
    };
    expect(await engineOf(images, {})).toMatchObject({ image: 'r/cpu:1', command: null });
    expect(await engineOf(images, gpu(1))).toMatchObject({ image: 'r/gpu:1' });
    expect(await engineOf(images, gpu(2))).toBe('resources.gpu');
    expect(await engineOf({ ...images, supports_multi_gpu: true }, gpu(2))).toMatchObject({
      image: 'r/gpu:1',
    });
    expect(await engineOf({ container_image_cpu: 'r/cpu:1' }, gpu(1))).toBe('resources.gpu');
    expect(await engineOf({ container_image_gpu: 'r/gpu:1' }, {})).toBe('resources.gpu');
    expect(await engineOf(images, { backend: 'process' })).toBe('backend');
    expect(await engineOf({ command: ['serve'] }, { backend: 'kubernetes' })).toBe('backend');
    expect(await engineOf({ command: ['serve'] }, gpu(2))).toBe('resources.gpu');
    // A command alone is what the image's entrypoint is given; with an entrypoint it is the whole command.
    expect(await engineOf({ ...images, command: ['--fast'] }, {})).toMatchObject({
      command: null,
      args: ['--fast'],
    });
    expect(await engineOf({ ...images, entrypoint: ['serve'], command: ['--fast'] }, {})).toMatchObject({
      command: ['serve', '--fast'],
    });
  });

  it.each<Refused>([
    ['an engine that there is not', 404, 'engine_not_found', { selector: { engine_name: 'nobody' } }],
    ['a version that there is not', 404, 'engine_not_found', { selector: { version: '9' } }],
    [
      'a selector without a project',
      422,
      'engine_selector.project_name',
      { selector: { project_name: null } },
    ],
    ['a selector with more', 422, 'engine_selector.id', { selector: { id: 'x' } }],
    ['a selector that is a text', 422, 'engine_selector', { engine_selector: 'vision/plain' }],
    ['a class of its own beside it', 422, 'handler', { handler: 'a.b' }],
    ['an image beside it', 422, 'image', { image: { reference: 'a' } }],
    ['variables that are not the predictor’s', 422, 'env', { env: { A: 'b' } }],
    ['a reserved variable', 422, 'predictor_env_var.LD_PRELOAD', { predictor_env_var: { LD_PRELOAD: 'x' } }],
    [
      'a variable of ours',
      422,
      'predictor_env_var.SLUICE_MODEL_PATH',
      { predictor_env_var: { SLUICE_MODEL_PATH: '/' } },
    ],
    ['the port', 422, 'predictor_env_var.PORT', { predictor_env_var: { PORT: 1 } }],
    ['a variable that is a list', 422, 'predictor_env_var.A', { predictor_env_var: { A: [] } }],
    ['an imported model without an engine', 422, 'engine_selector', { engine_selector: null }],
    [
      'predictor variables without an engine',
      422,
      'predictor_env_var',
      { model: 'own', engine_selector: null, predictor_env_var: { A: 'b' } },
    ],
  ])('%s is refused', async (_, status, what, { selector = {}, ...more }) => {
    const answer = await deploy('refused', more, selector);
    expect([answer.status, answer.status === 404 ? answer.json.code : answer.json.field]).toEqual([
      status,
      what,
    ]);
    expect((await send('GET', '/v1/scaling-groups/refused')).status).toBe(404);
    expect((await send('GET', '/v1/engines/vision/plain/versions/1')).json.used_by).not.toContain('refused');
    expect((await send('GET', '/v1/models/House_Price/versions/1')).json.used_by).not.toContain('refused');
  });

  const types = [
    { name: 'I', type: 'int' },
    { name: 'F', type: 'float' },
    { name: 'B', type: 'bool' },
    { name: 'S', type: 'string' },
  ];
  it.each([
    ['I', ['7', 7, '+7', '-0'], ['7', '7', '7', '0']],
    ['F', ['1e3', 0.25, '.5', 3], ['1000', '0.25', '0.5', '3']],
    ['B', [true, 'FALSE', 1, '0'], ['true', 'false', 'true', 'false']],
    ['S', ['x', 1.5, true, ''], ['x', '1.5', 'true', '']],
  ])('%s is cast', async (name, given, cast) => {
    await create({ name: 'cast', predictor_env_schema: types, enforce_predictor_env_schema: true });
    const seen: unknown[] = [];
    for (const [i, value] of given.entries()) {
      const { json } = await deploy(
        `cast-${name}-${i}`,
        { predictor_env_var: { [name]: value } },
        { engine_name: 'cast' },
      );
      seen.push(json.engine.predictor_env[name]);
    }
    expect(seen).toEqual(cast);
  });

  it.each([
    ['I', ['1.5', 1.5, 'x', '', '9007199254740993', true, '0x10']],
    ['F', ['NaN', 'Infinity', '1e999', '', true, 'x']],
    ['B', ['yes', 2, '', 'null']],
    ['S', ['a\0b', 'a'.repeat(65_537)]],
    ['OTHER', ['x']],
  ])('%s is refused where it cannot be cast', async (name, given) => {
    await create({ name: 'cast', predictor_env_schema: types, enforce_predictor_env_schema: true });
    for (const value of given) {
      const answer = await deploy(
        'uncast',
        { predictor_env_var: { [name]: value } },
        { engine_name: 'cast' },
      );
      expect([value, answer.status, answer.json.field]).toEqual([value, 422, `predictor_env_var.${name}`]);
    }
  });

  it('does not serve a version that is an image of its own', async () => {
    await rig.post('/v1/models/boxed/versions', {
      ...REGISTRATION,
      handler: null,
      source: [],
      image: { reference: 'a' },
    });
    const answer = await deploy('boxed', { model: 'boxed' });
    expect([answer.status, answer.json.field]).toEqual([422, 'engine_selector']);
  });

  it('hides values from those who may only call', async () => {
    const guarded = await startRig();
    const post = (route: string, body: unknown, key: string) =>
      guarded.post(route, body, { authorization: `Bearer ${key}` });
    const admin = (await guarded.post('/v1/keys', { name: 'a', scopes: ['admin'] })).json.secret;
    const caller = (await post('/v1/keys', { name: 'c', scopes: ['call'] }, admin)).json.secret;
    expect((await post('/v1/engines', ENGINE, caller)).status).toBe(403);
    await post('/v1/engines', { ...ENGINE, env: { TOKEN: 'secret' } }, admin);
    await post('/v1/models/house/versions', IMPORTED, admin);
    const as = (key: string, init: RequestInit = {}) => ({
      ...init,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    });
    const body = JSON.stringify({
      model: 'house',
      engine_selector: SELECTOR,
      predictor_env_var: { KEY: 'secret' },
    });
    const made = await guarded.ask('/v1/scaling-groups/g', as(admin, { method: 'PUT', body }));
    expect(made.status).toBe(201);
    for (const route of [
      '/v1/engines/vision/onnx/versions/1',
      '/v1/scaling-groups',
      '/v1/scaling-groups/g',
      '/v1/functions',
      '/v1/functions/model.g',
    ]) {
      expect((await guarded.ask(route, as(admin))).text).toContain('secret');
      const seen = await guarded.ask(route, as(caller));
      expect([route, seen.status]).toEqual([route, 200]);
      expect(seen.text).not.toContain('secret');
    }
    await guarded.stop();
  });
});

describe('an imported version', () => {
  const register = (more: object) =>
    rig.post(`/v1/models/imported-${fresh()}/versions`, { ...IMPORTED, ...more });
  const imported = (more: object) => ({ import: { project: 'vision', ...more } });

  it('keeps what it is called elsewhere', async () => {
    expect((await send('GET', '/v1/models/House_Price/versions/1')).json.import).toEqual({
      ...{ project: 'vision', summary: 'Prices', version: '1.0', task_type: 'Tabular Regression' },
      class_labels: { cheap: 0, dear: 1 },
    });
    expect((await register({})).json).toMatchObject({
      ...{ inputs: [], outputs: [], handler: null, source: [] },
      import: { project: 'vision', summary: '', version: null, task_type: null, class_labels: {} },
    });
    expect((await send('GET', '/v1/models/own/versions/1')).json).not.toHaveProperty('import');
  });

  it.each([
    ['no project', 'import.project', { import: {} }],
    ['a project with a slash', 'import.project', imported({ project: 'a/b' })],
    ['a summary that is a number', 'import.summary', imported({ summary: 1 })],
    ['an empty task type', 'import.task_type', imported({ task_type: '' })],
    ['a version of 257 letters', 'import.version', imported({ version: 'a'.repeat(257) })],
    ['a list of labels', 'import.class_labels', imported({ class_labels: ['a'] })],
    ['a label without an index', 'import.class_labels.a', imported({ class_labels: { a: null } })],
    ['a label with a negative index', 'import.class_labels.a', imported({ class_labels: { a: -1 } })],
    ['a member that there is not', 'import.id', imported({ id: 1 })],
    ['no import, and nothing to serve it', 'handler', { import: null }],
    [
      'a column twice',
      'inputs[1].name',
      {
        inputs: [
          { name: 'a', type: 'utf8' },
          { name: 'a', type: 'utf8' },
        ],
      },
    ],
  ])('with %s is refused by its name', async (_, field, more) => {
    const { status, json } = await register(more);
    expect([status, json.code, json.field]).toEqual([422, 'invalid_model', field]);
  });
});
