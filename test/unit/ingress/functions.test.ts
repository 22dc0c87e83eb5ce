import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rig, spec, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig({ ingressThreads: '2' });
});
afterAll(() => rig.stop());

const text = { columns: { text: ['a', 'b'] } };
const send = (method: string, route: string, body?: unknown) =>
  rig.ask(route, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });

describe('a function', () => {
  it('is 201 when it is new, 200 when it is the same, and callable on every thread at once', async () => {
    const first = await send('POST', '/v1/functions', { function: spec('f') });
    expect([first.status, first.headers.get('location')]).toEqual([201, '/v1/functions/f']);
    const again = await send('POST', '/v1/functions', { function: spec('f') });
    expect([again.status, again.json.version]).toEqual([200, first.json.version]);
    const answers = await Promise.all(
      Array.from({ length: 16 }, () => rig.post('/v1/functions/f/calls', text)),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    const { json } = await send('GET', '/v1/functions/f');
    expect(json.queue).toMatchObject({ waiting_calls: 16, waiting_rows: 32 });
    expect(json.queue.oldest_ms).toBeGreaterThanOrEqual(0);
    expect((await send('GET', '/v1/functions')).json.functions).toContainEqual(
      expect.objectContaining({ name: 'f', paused: false }),
    );
  });

  it('that is refused names the option', async () => {
    const { status, json } = await send('POST', '/v1/functions', {
      function: { ...spec('g'), isolation: 'no' },
    });
    expect([status, json.code, json.field]).toEqual([422, 'invalid_function', 'isolation']);
    const unknown = await send('POST', '/v1/functions', { function: spec('g'), force: true });
    expect([unknown.status, unknown.json.field]).toEqual([400, 'force']);
    for (const body of [undefined, [], {}]) {
      const answer = await send('POST', '/v1/functions', body);
      expect(answer.status).toBe(400);
    }
  });

  it('is updated in part, paused, resumed and shown', async () => {
    await rig.deploy('u', { max_batching_size: 10 });
    const updated = await send('PATCH', '/v1/functions/u', { max_batching_size: 20 });
    expect(updated.json.spec).toMatchObject({ max_batching_size: 20, max_buffer_duration: 1000 });
    for (const wrong of [{}, { max_batching_size: 0 }, { name: 'x' }, { max_batching_size: '5' }]) {
      expect((await send('PATCH', '/v1/functions/u', wrong)).status).toBe(400);
    }
    expect((await send('POST', '/v1/functions/u/pause')).json.paused).toBe(true);
    expect((await rig.post('/v1/functions/u/calls', text)).status).toBe(202);
    expect((await send('POST', '/v1/functions/u/resume')).json.paused).toBe(false);
  });

  it('takes no members where there are none to take, and no query parameters', async () => {
    await rig.deploy('bare');
    for (const [method, route] of [
      ['POST', '/v1/functions/bare/resume'],
      ['DELETE', '/v1/functions/bare'],
      ['DELETE', '/v1/calls/nothing'],
    ] as const) {
      const { status, json } = await send(method, route, { x: 1 });
      expect([status, json.code, json.field], route).toEqual([400, 'invalid_request', 'x']);
    }
    expect((await send('POST', '/v1/functions/bare/resume', {})).status).toBe(200);
    for (const route of ['/metrics', '/openapi.json', '/livez', '/v1/functions'])
      expect((await rig.ask(`${route}?x=1`)).json, route).toMatchObject({ status: 400, field: 'x' });
    const index = await rig.post('/v2/repository/index?x=1', {});
    expect([index.status, index.json.error]).toEqual([400, expect.stringContaining('x is no query')]);
  });

  it('is purged, and deleted when nothing of it is unfinished', async () => {
    await rig.deploy('p');
    for (let i = 0; i < 3; i += 1) await rig.post('/v1/functions/p/calls', text);
    const busy = await send('DELETE', '/v1/functions/p');
    expect([busy.status, busy.json.code]).toEqual([409, 'function_busy']);
    expect((await send('POST', '/v1/functions/p/purge')).json).toEqual({ calls: 3, rows: 6 });
    expect((await send('DELETE', '/v1/functions/p')).status).toBe(204);
    expect((await send('GET', '/v1/functions/p')).status).toBe(404);
    expect((await rig.post('/v1/functions/p/calls', text)).json.code).toBe('function_not_found');
  });

  it('moves waiting calls to another version with the same schemas', async () => {
    const old = await rig.deploy('r');
    const { json: call } = await rig.post('/v1/functions/r/calls', text);
    const next = await rig.deploy('r', { source: [{ path: 'f.js', content: 'YQ==' }] });
    const moved = await send('POST', '/v1/functions/r/repin', { from: old.version, to: next.version });
    expect(moved.json).toEqual({ calls: 1 });
    expect((await send('GET', `/v1/calls/${call.call_id}`)).json.version).toBe(next.version);
    const wrong = await send('POST', '/v1/functions/r/repin', { from: 'x', to: next.version });
    expect([wrong.status, wrong.json.field]).toEqual([400, 'from']);
    const other = await rig.deploy('r', { inputs: [{ name: 'n', type: 'int64', nullable: false }] });
    const differ = await send('POST', '/v1/functions/r/repin', { from: next.version, to: other.version });
    expect([differ.status, differ.json.code]).toEqual([409, 'schemas_differ']);
  });

  it('shows what its handlers printed', async () => {
    await rig.deploy('l');
    const line = { at: Date.now(), functionName: 'l', replica: 0, stream: 'stdout' as const };
    await rig.store.registry.appendLogs([1, 2, 3].map((n) => ({ ...line, text: `line ${n}` })));
    const { json } = await send('GET', '/v1/functions/l/logs?limit=2');
    expect(json.lines.map((one: { text: string }) => one.text)).toEqual(['line 2', 'line 3']);
    expect((await send('GET', '/v1/functions/l/logs?limit=0')).json.field).toBe('limit');
  });

  it.each([
    ['GET', ''],
    ['PATCH', '', { max_batching_size: 5 }],
    ['DELETE', ''],
    ['POST', '/pause'],
    ['POST', '/purge'],
    ['GET', '/logs'],
    ['POST', '/repin', { from: 'a', to: 'b' }],
  ])('that is not there is 404 for %s %s', async (method, path, body?: object) => {
    const { status, json } = await send(method, `/v1/functions/none${path}`, body);
    expect([status, json.code]).toEqual([404, 'function_not_found']);
  });
});
