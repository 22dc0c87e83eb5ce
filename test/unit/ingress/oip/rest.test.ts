/** /v2 on a real ingress and a real store: what a request becomes, what it answers, and how it ends when it should not go on. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';
import { eventually } from '../../../support/sluice-process.ts';
import { type Answer, type Rig, type Row, raw, settleAll, startRig, versionIdOf } from '../rig.ts';

let shared: Rig;
let rig: Rig;
beforeAll(async () => {
  shared = await startRig();
  await shared.deploy('f', FLOATS);
});
beforeEach(() => {
  rig = shared;
});
afterEach(async () => {
  if (rig !== shared) await rig.stop();
});
afterAll(() => shared.stop());

const FLOATS = {
  inputs: [{ name: 'x', type: 'float32', nullable: false }],
  output: { type: 'float32', nullable: true },
};
const tensor = (data: readonly unknown[], more: object = {}) => ({
  inputs: [{ name: 'x', shape: [data.length], datatype: 'FP32', data }],
  ...more,
});

const waiting = (count: number, name = 'f') =>
  eventually(`${count} calls wait`, async () => {
    const versionId = await versionIdOf(rig.store, name);
    const { calls } = await rig.store.queue.open({ versionId, after: 0, limit: 100 });
    return calls.length === count && calls;
  });

/** Asks, lets the call run with what `rowOf` says, and gives the answer. */
const infer = async (
  body: unknown,
  rowOf: (row: number) => Row = (row) => ({ value: row }),
  headers: Record<string, string> = {},
  type: Parameters<typeof settleAll>[3] = 'float32',
): Promise<Answer> => {
  const asked = rig.post('/v2/models/f/infer', body, headers);
  await waiting(1);
  await settleAll(rig.store, await versionIdOf(rig.store, 'f'), (_, row) => rowOf(row), type);
  return asked;
};

const statusOf = async (callId: number): Promise<string | undefined> => {
  const call = await rig.store.queue.call(callId);
  return call === undefined || call === 'gone' ? undefined : call.status;
};

const cancelled = (callId: number) =>
  eventually('the call is cancelled', async () => (await statusOf(callId)) === 'cancelled');

describe('an inference', () => {
  it('is a call like all others, whose rows share batches with theirs', async () => {
    const asked = rig.post('/v2/models/f/infer', tensor([1, 2], { id: 'mine' }));
    await rig.post('/v1/functions/f/calls', { columns: { x: [3] } });
    const calls = await waiting(2);
    expect(calls.map(({ rows, schemaKey }) => [rows, schemaKey]).sort()).toEqual([
      [1, ''],
      [2, ''],
    ]);
    await settleAll(
      rig.store,
      await versionIdOf(rig.store, 'f'),
      (_, row) => ({ value: row + 0.5 }),
      'float32',
    );
    const { status, headers, json } = await asked;
    expect(status).toBe(200);
    expect(json).toMatchObject({
      ...{ model_name: 'f', id: 'mine' },
      outputs: [{ name: 'result', datatype: 'FP32', shape: [2], data: [0.5, 1.5] }],
    });
    expect(headers.get('x-handler-ms')).toBe('2.5');
    const call = await rig.ask(`/v1/calls/${headers.get('x-call-id')}`);
    expect(call.json).toMatchObject({ status: 'completed', rows: 2, function: 'f' });
  });

  it('answers in the form that is asked for', async () => {
    const answer = await infer(tensor([1, 2], { parameters: { binary_data_output: true } }));
    const length = Number(answer.headers.get('inference-header-content-length'));
    expect(answer.headers.get('content-type')).toBe('application/octet-stream');
    const { outputs } = JSON.parse(answer.text.slice(0, length)) as { outputs: object[] };
    expect(outputs[0]).toMatchObject({ shape: [2], parameters: { binary_data_size: 8 } });
    expect(outputs[0]).not.toHaveProperty('data');
    const wanted = [{ name: 'result', parameters: { binary_data: false } }];
    const text = await infer(tensor([1], { parameters: { binary_data_output: true }, outputs: wanted }));
    expect(text.json.outputs[0].data).toEqual([0]);
  });

  it('takes compressed bodies, and bodies of any type or none', async () => {
    const body = new Uint8Array(gzipSync(JSON.stringify(tensor([1]))));
    const zipped = await infer(body, undefined, { 'content-encoding': 'gzip', 'content-type': 'text/plain' });
    expect(zipped.status).toBe(200);
    const text = JSON.stringify(tensor([1]));
    const asked = raw(
      rig.port,
      `POST /v2/models/f/infer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
    );
    await waiting(1);
    await settleAll(rig.store, await versionIdOf(rig.store, 'f'), () => ({ value: 7 }), 'float32');
    expect(await asked).toContain('"data":[7]');
  });

  it('of no rows is answered at once', async () => {
    const { status, json } = await rig.post('/v2/models/f/infer', tensor([]));
    expect(status).toBe(200);
    expect(json.outputs).toEqual([{ name: 'result', datatype: 'FP32', shape: [0], data: [] }]);
  });

  it('that is larger than an event is read from the store, page by page', async () => {
    const rows = 300_000;
    const json = Buffer.from(
      JSON.stringify({
        inputs: [{ name: 'x', datatype: 'FP32', shape: [rows], parameters: { binary_data_size: rows * 4 } }],
      }),
    );
    const body = new Uint8Array(Buffer.concat([json, Buffer.alloc(rows * 4)]));
    const answer = await infer(body, undefined, { 'inference-header-content-length': String(json.length) });
    expect(answer.status).toBe(200);
    const { data } = answer.json.outputs[0];
    expect([data.length, data[1], data.at(-1)]).toEqual([rows, 1, rows - 1]);
  });

  it('is of the function of a scaling group where only the group is named', async () => {
    const { status, json } = await rig.ask('/v2/models/nope');
    expect(status).toBe(404);
    expect(json.error).toContain('no function or scaling group "nope"');
  });
});

describe('what goes wrong is told in one text', () => {
  it('with the row, the cause and how many', async () => {
    const error = { code: 'handler_error', kind: 'ValueError', message: 'no good' };
    const { status, json } = await infer(tensor([1, 2, 3]), (row) =>
      row === 1 ? { error } : { value: row },
    );
    expect(status).toBe(500);
    expect(Object.keys(json)).toEqual(['error']);
    expect(json.error).toMatch(
      /^1 of 3 rows of call \w+ .*row 1 failed with ValueError: no good \(handler_error\)$/,
    );
  });

  it('with the row that is null', async () => {
    const { status, json } = await infer(tensor([1, 2]), (row) => ({ value: row === 1 ? null : 0 }));
    expect(status).toBe(406);
    expect(json.error).toContain('"result" is null in row 1');
  });

  it.each<[string, unknown, number, RegExp]>([
    ['an unknown input type', { inputs: [{ name: 'x', shape: [1], datatype: 'X', data: [1] }] }, 400, /"X"/],
    ['an unknown output', tensor([1], { outputs: [{ name: 'other' }] }), 400, /"other".*outputs are result/],
    ['no JSON', '{', 400, /does not parse.*invalid_json/],
    ['no body', '', 400, /empty|no body|does not parse/],
    ['JSON that begins deep', '['.repeat(100_000), 400, /parse/],
    [
      'JSON that nests deep',
      `{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":${'['.repeat(100_000)}${']'.repeat(100_000)}}]}`,
      400,
      /nests too deep/,
    ],
  ])('%s', async (_, body, status, message) => {
    const answer = await rig.post('/v2/models/f/infer', body);
    expect([answer.status, Object.keys(answer.json)]).toEqual([status, ['error']]);
    expect(answer.json.error).toMatch(message);
  });

  it('text of a column whose JSON nests deep', async () => {
    const type = { struct: [{ name: 'a', type: 'int64', nullable: false }] };
    await rig.deploy('nested', { ...FLOATS, inputs: [{ name: 'x', type, nullable: false }] });
    const data = ['['.repeat(100_000) + ']'.repeat(100_000)];
    const body = { inputs: [{ name: 'x', shape: [1], datatype: 'BYTES', data }] };
    const { status, json } = await rig.post('/v2/models/nested/infer', body);
    expect([status, json.error]).toEqual([400, expect.stringContaining('nests too deep')]);
  });

  it('a body above the limit, decoded or not, and a queue that is full', async () => {
    rig = await startRig({ bodyBytesMax: '2MiB' });
    await rig.deploy('f', { ...FLOATS, inputs: [{ name: 'x', type: 'bool', nullable: false }] });
    const large = new Uint8Array(3 * 2 ** 20);
    const plain = await rig.post('/v2/models/f/infer', large).catch(() => null);
    if (plain !== null) expect([plain.status, Object.keys(plain.json)]).toEqual([413, ['error']]);
    const bomb = new Uint8Array(gzipSync(large));
    const zipped = await rig.post('/v2/models/f/infer', bomb, { 'content-encoding': 'gzip' });
    expect([zipped.status, Object.keys(zipped.json)]).toEqual([413, ['error']]);
    // One row waits in a queue of a million.
    await rig.post('/v1/functions/f/calls', { columns: { x: [true] } });
    const rows = 1_000_000;
    const head = { name: 'x', datatype: 'BOOL', shape: [rows], parameters: { binary_data_size: rows } };
    const json = Buffer.from(JSON.stringify({ inputs: [head] }));
    const full = await rig.post(
      '/v2/models/f/infer',
      new Uint8Array(Buffer.concat([json, Buffer.alloc(rows)])),
      {
        'inference-header-content-length': String(json.length),
      },
    );
    expect([full.status, full.headers.get('retry-after')]).toEqual([429, expect.stringMatching(/^\d+$/)]);
    expect(full.json.error).toContain('(queue_full)');
  });

  it('paths and methods that are not there', async () => {
    expect((await rig.ask('/v2/nothing')).json).toEqual({ error: expect.stringContaining('(not_found)') });
    const wrong = await rig.ask('/v2/models/f', { method: 'DELETE' });
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, expect.stringContaining('GET')]);
    expect(wrong.json.error).toContain('(method_not_allowed)');
    expect((await rig.ask('/v1/nothing')).json).toHaveProperty('detail');
  });

  it('keys that are missing, and scopes that are', async () => {
    rig = await startRig();
    await rig.deploy('f', FLOATS);
    const made = async (name: string, scopes: string[], headers = {}): Promise<Record<string, string>> => {
      const { json } = await rig.post('/v1/keys', { name, scopes }, headers);
      return { authorization: `Bearer ${json.secret ?? json.key}` };
    };
    const admin = await made('root', ['admin']);
    const deployer = await made('deployer', ['deploy'], admin);
    const missing = await rig.post('/v2/models/f/infer', tensor([]));
    expect([missing.status, Object.keys(missing.json)]).toEqual([401, ['error']]);
    expect(missing.headers.get('www-authenticate')).toContain('Bearer');
    expect((await rig.post('/v2/models/f/infer', tensor([]), deployer)).status).toBe(403);
    expect((await rig.post('/v2/models/f/infer', tensor([]), admin)).status).toBe(200);
    expect((await rig.ask('/v2/health/live')).status).toBe(200);
  });
});

describe('a call that nobody waits for any more', () => {
  it('is cancelled when the time of its parameter is over', async () => {
    const asked = rig.post('/v2/models/f/infer', tensor([1], { parameters: { timeout: 300_000 } }));
    const [call] = await waiting(1);
    expect(call!.deadlineAt! - call!.arrivedAt).toBe(300);
    const { status, json } = await asked;
    expect([status, json.error]).toEqual([504, expect.stringContaining('within 300 ms')]);
    expect(['cancelled', 'expired']).toContain(await statusOf(call!.callId));
  });

  const request = (headers = ''): string => {
    const text = JSON.stringify(tensor([1]));
    return `POST /v2/models/f/infer HTTP/1.1\r\nhost: localhost\r\n${headers}content-length: ${text.length}\r\n\r\n${text}`;
  };

  it('is cancelled when its caller leaves', async () => {
    const socket = connect(rig.port, '127.0.0.1');
    socket.write(request());
    const [call] = await waiting(1);
    socket.destroy();
    await cancelled(call!.callId);
  });

  it('stays when an idempotency key can find it again', async () => {
    const socket = connect(rig.port, '127.0.0.1');
    socket.write(request('idempotency-key: k\r\n'));
    const [call] = await waiting(1);
    socket.destroy();
    await once(socket, 'close');
    const again = await infer(tensor([1]), () => ({ value: 5 }), { 'idempotency-key': 'k' });
    expect(again.json.outputs[0].data).toEqual([5]);
    expect(await statusOf(call!.callId)).toBe('completed');
    const other = await rig.post('/v2/models/f/infer', tensor([2]), { 'idempotency-key': 'k' });
    expect([other.status, other.json.error]).toEqual([
      422,
      expect.stringContaining('(idempotency_mismatch)'),
    ]);
  });

  it('goes on behind its time when an idempotency key can find it again, to its own deadline', async () => {
    const key = { 'idempotency-key': 'patient' };
    const first = await rig.post('/v2/models/f/infer', tensor([1], { parameters: { timeout: 50_000 } }), key);
    expect([first.status, first.json.error]).toEqual([504, expect.stringContaining('call goes on')]);
    const [call] = await waiting(1);
    expect(call!.deadlineAt).toBeNull();
    const again = await infer(tensor([1]), () => ({ value: 5 }), key);
    expect([again.status, again.json.outputs?.[0].data]).toEqual([200, [5]]);
    const late = { 'idempotency-key': 'late', 'sluice-deadline-ms': '500' };
    const asked = rig.post('/v2/models/f/infer', tensor([1]), late);
    const { deadlineAt } = (await waiting(1))[0]!;
    await rig.store.queue.expired({ now: deadlineAt!, claimsMax: 5, limit: 10, heartbeatMs: 60_000 });
    expect((await asked).status).toBe(504);
    const { status, json } = await rig.post('/v2/models/f/infer', tensor([1]), late);
    expect([status, json.error]).toEqual([504, expect.stringContaining('deadline of the call passed')]);
  });

  it('attaches with its own options alone', async () => {
    const key = { 'idempotency-key': 'options' };
    await infer(tensor([1]), () => ({ value: 5 }), key);
    for (const other of [{ 'sluice-priority': '5' }, { 'sluice-metadata': '{"a":"b"}' }]) {
      const { status, json } = await rig.post('/v2/models/f/infer', tensor([1]), { ...key, ...other });
      expect([status, json.error]).toEqual([422, expect.stringContaining('(idempotency_mismatch)')]);
    }
  });

  it('is cancelled when the server drains, and its caller is told to come again', async () => {
    rig = await startRig();
    await rig.deploy('f', FLOATS);
    const asked = rig.post('/v2/models/f/infer', tensor([1]));
    const [call] = await waiting(1);
    await rig.stopIngress();
    const { status, headers, json } = await asked;
    expect([status, headers.has('retry-after')]).toEqual([503, true]);
    expect(json.error).toContain('(shutting_down)');
    expect(await statusOf(call!.callId)).toBe('cancelled');
  });
});

describe('models', () => {
  it('have metadata, versions and readiness', async () => {
    rig = await startRig();
    const { version } = await rig.deploy('f', {
      inputs: [
        { name: 'v', type: { fixed_size_list: { name: 'item', type: 'float16', nullable: true }, size: 3 } },
        { name: 't', type: 'utf8' },
      ],
      output: { type: { list: { name: 'item', type: 'float32', nullable: true } }, nullable: false },
    });
    const { json } = await rig.ask('/v2/models/f');
    expect(json).toEqual({
      ...{ name: 'f', versions: [version], platform: 'sluice_node' },
      inputs: [
        { name: 'v', datatype: 'FP16', shape: [-1, 3] },
        { name: 't', datatype: 'BYTES', shape: [-1] },
      ],
      outputs: [{ name: 'result', datatype: 'FP32', shape: [-1, -1] }],
    });
    expect((await rig.ask(`/v2/models/f/versions/${version}`)).json).toEqual(json);
    const other = await rig.ask('/v2/models/f/versions/7');
    expect([other.status, other.json.error]).toEqual([
      404,
      expect.stringContaining(`"7"; there is ${version}`),
    ]);
    const ready = await rig.ask('/v2/models/f/ready');
    expect([ready.status, ready.json.ready]).toEqual([400, false]);
    const versionId = await versionIdOf(rig.store, 'f');
    const report = { workerId: 'w', versionId, ready: 1, starting: 0, failed: 0, reason: null, ignored: [] };
    await rig.store.registry.report({ now: Date.now(), report: { ...report, until: Date.now() + 60_000 } });
    expect(await rig.ask('/v2/models/f/ready')).toMatchObject({
      status: 200,
      json: { name: 'f', ready: true },
    });
    const index = await rig.post('/v2/repository/index', { ready: true });
    expect(index.json).toEqual([{ name: 'f', version, state: 'READY', reason: '' }]);
    await rig.post('/v1/functions/f/pause', {});
    expect((await rig.post('/v2/repository/index', { ready: true })).json).toEqual([]);
    expect((await rig.ask('/v2/repository/index', { method: 'POST' })).json).toHaveLength(1);
    const refused = await rig.post('/v2/repository/index', { ready: 'yes' });
    expect([refused.status, refused.json.error]).toEqual([400, expect.stringContaining('ready is "yes"')]);
  });

  it('are scaling groups by their own names, and model versions by their numbers', async () => {
    const spec = { ...PLAIN_SPEC, name: 'model.prices', runtime: 'node' as const };
    const model = { name: 'price', version: 3, files: [], loader: null };
    await rig.store.registry.deploy({ now: Date.now(), spec: { ...spec, model } });
    const { json } = await rig.ask('/v2/models/prices/versions/3');
    expect(json).toMatchObject({ name: 'prices', versions: ['3'] });
    expect((await rig.ask('/v2/models/model.prices')).json.inputs).toEqual(json.inputs);
    const body = { inputs: [{ name: 'any', shape: [1], datatype: 'INT64', data: [4] }] };
    const asked = rig.post('/v2/models/prices/versions/3/infer', body);
    await waiting(1, 'model.prices');
    await settleAll(rig.store, await versionIdOf(rig.store, 'model.prices'), () => ({ value: 9 }));
    expect((await asked).json).toMatchObject({ model_version: '3', outputs: [{ data: [9] }] });
  });

  it('take no calls in a version that another has replaced', async () => {
    const { version } = await rig.deploy('replaced', FLOATS);
    const newer = await rig.deploy('replaced', {
      ...FLOATS,
      max_batching_size: 9,
      handler: { file: 'f.js', attribute: 'g' },
    });
    expect(newer.version).not.toBe(version);
    const { status, json } = await rig.post(`/v2/models/replaced/versions/${version}/infer`, tensor([1]));
    expect([status, json.error]).toEqual([404, expect.stringContaining('takes no calls any more')]);
  });

  it('are in the document of the API', async () => {
    const { json } = await rig.ask('/openapi.json');
    expect(Object.keys(json.paths)).toEqual(
      expect.arrayContaining([
        '/v2',
        '/v2/models/{name}/infer',
        '/v2/models/{name}/versions/{version}/infer',
      ]),
    );
    expect(Object.keys(json.paths['/v2/models/{name}/infer'].post.responses)).toContain('504');
    expect(json.paths['/v2/repository/index'].post.requestBody.required).toBe(false);
    expect(json.paths['/v2/models/{name}/infer'].post.requestBody.required).toBe(true);
  });
});
