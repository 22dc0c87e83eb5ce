import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ARROW_STREAM } from '../../../shared/wire/api.ts';
import { type Rig, settleAll, startRig, versionIdOf } from './rig.ts';

let rig: Rig;
const CALLS = '/v1/functions/len/calls';
const text = (...values: unknown[]) => ({ columns: { text: values } });

beforeAll(async () => {
  rig = await startRig({ bodyBytesMax: '64KiB' });
  await rig.deploy('len');
});
afterAll(() => rig.stop());

describe('a submission', () => {
  it('is 202 with the call and where it is', async () => {
    const { status, headers, json } = await rig.post(CALLS, text('a', 'b'), { 'sluice-lane': 'l' });
    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`/v1/calls/${json.call_id}`);
    expect(json).toMatchObject({
      ...{ function: 'len', status: 'pending', rows: 2, lane: 'l', durability: 'memory' },
      counts: { ok: 0, unfinished: 2 },
    });
    const shown = await rig.ask(`/v1/calls/${json.call_id}`);
    expect(shown.json).toEqual(json);
  });

  it('takes rows as well as columns, and options in the body', async () => {
    const body = { rows: [{ text: 'a' }], priority: 7, lane: 'x', deadline_ms: 60_000, metadata: { k: 'v' } };
    const { status, json } = await rig.post(CALLS, body);
    expect(status).toBe(202);
    expect(json).toMatchObject({ rows: 1, priority: 7, lane: 'x', metadata: { k: 'v' } });
    expect(Date.parse(json.deadline_at) - Date.parse(json.arrived_at)).toBe(60_000);
  });

  it('of no rows is completed when it is admitted', async () => {
    const { json } = await rig.post(CALLS, text());
    expect(json).toMatchObject({ status: 'completed', rows: 0 });
    const waited = await rig.post(CALLS, text(), { prefer: 'wait=5' });
    expect(waited.status).toBe(200);
    expect(waited.json).toMatchObject({ status: 'completed', result: [], errors: [] });
  });

  it('takes Arrow with options in headers', async () => {
    const { status, json } = await rig.post(CALLS, rowsToStream({ text: ['a', 'b', 'c'] }), {
      'content-type': ARROW_STREAM,
      'sluice-priority': '-3',
      'sluice-metadata': '{"source":"docs"}',
    });
    expect(status).toBe(202);
    expect(json).toMatchObject({ rows: 3, priority: -3, metadata: { source: 'docs' } });
  });

  it.each([
    ['a null', text('a', null), 'invalid_request', /"text", row 1/],
    ['a wrong type', text(5), 'invalid_request', /"text", row 0/],
    ['a column that is no list', { columns: { text: 'a' } }, 'invalid_request', /array/],
    ['an unknown column', { columns: { text: ['a'], tex: ['b'] } }, 'schema_mismatch', /"tex"/],
    ['a missing column', { columns: {} }, 'schema_mismatch', /"text" is missing/],
    ['a ragged row', { rows: [{ text: 'a' }, {}] }, 'schema_mismatch', /row 1 lacks "text"/],
    ['columns and rows', { columns: { text: ['a'] }, rows: [] }, 'invalid_request', /either/],
    ['neither', {}, 'invalid_request', /either/],
    ['an unknown member', { ...text('a'), column: 1 }, 'invalid_request', /column .*metadata/],
    [
      'a wrong priority',
      { ...text('a'), priority: 101 },
      'invalid_request',
      /priority is 101; .*-100 to 100/,
    ],
    ['a text for a priority', { ...text('a'), priority: '5' }, 'invalid_request', /priority is "5"/],
    ['a wrong lane', { ...text('a'), lane: 5 }, 'invalid_request', /lane is 5/],
    ['no time at all', { ...text('a'), deadline_ms: 0 }, 'invalid_request', /deadline_ms is 0/],
    ['metadata of numbers', { ...text('a'), metadata: { a: 1 } }, 'invalid_request', /metadata.a is 1/],
    ['large metadata', { ...text('a'), metadata: { a: 'x'.repeat(5000) } }, 'invalid_request', /4096 bytes/],
  ])('with %s is 400 and says why', async (_what, body, code, detail) => {
    const { status, json } = await rig.post(CALLS, body);
    expect([status, json.code]).toEqual([400, code]);
    expect(json.detail).toMatch(detail);
  });

  it.each([
    ['nothing', '', 'invalid_json'],
    ['no JSON', '{"columns":', 'invalid_json'],
    ['NaN', '{"columns":{"text":[NaN]}}', 'invalid_json'],
    ['a number beyond all', '{"columns":{"text":[1e400]}}', 'invalid_request'],
    ['a list', '[1]', 'invalid_json'],
    ['a lone number', '1', 'invalid_json'],
    ['wrong UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'invalid_json'],
    ['__proto__ at the top', '{"__proto__":{"x":1},"columns":{"text":["a"]}}', 'invalid_request'],
    ['__proto__ as a column', '{"columns":{"text":["a"],"__proto__":["b"]}}', 'schema_mismatch'],
    ['constructor as a column', '{"columns":{"text":["a"],"constructor":["b"]}}', 'schema_mismatch'],
    ['deep lists', `{"columns":{"text":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`, 'invalid_json'],
    [
      'deep metadata',
      `{"columns":{"text":["a"]},"metadata":{"a":${'['.repeat(30_000)}1${']'.repeat(30_000)}}}`,
      'invalid_request',
    ],
  ])('whose body is %s is refused', async (_what, body, code) => {
    const { status, json } = await rig.post(CALLS, body);
    expect([status, json.code]).toEqual([400, code]);
  });

  it('with a number that overflows is refused, and does not become infinite or null', async () => {
    await rig.deploy('numbers', { inputs: [{ name: 'x', type: 'float64', nullable: false }] });
    const { status } = await rig.post('/v1/functions/numbers/calls', '{"columns":{"x":[1e400]}}');
    expect(status).toBe(400);
  });

  it('takes the last of duplicate members, as JSON parsers do, and pollutes nothing', async () => {
    const { status, json } = await rig.post(CALLS, '{"columns":{"text":[1]},"columns":{"text":["a"]}}');
    expect([status, json.rows]).toEqual([202, 1]);
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });

  it.each([
    ['priority', { 'sluice-priority': '1e3' }, 'Sluice-Priority'],
    ['priority out of range', { 'sluice-priority': '-101' }, 'Sluice-Priority'],
    ['deadline', { 'sluice-deadline-ms': 'soon' }, 'Sluice-Deadline-Ms'],
    ['metadata', { 'sluice-metadata': '{' }, 'Sluice-Metadata'],
    ['wait', { prefer: 'wait=soon' }, 'Prefer'],
    ['long wait', { prefer: 'wait=601' }, 'Prefer'],
    ['negative wait', { prefer: 'wait=-1' }, 'Prefer'],
    ['idempotency key', { 'idempotency-key': 'k'.repeat(256) }, 'Idempotency-Key'],
  ])('with a wrong %s header is 400 and names it', async (_what, headers, field) => {
    const { status, json } = await rig.post(CALLS, text('a'), headers);
    expect([status, json.field]).toEqual([400, field]);
  });

  it('ignores preferences that are not ours', async () => {
    expect((await rig.post(CALLS, text('a'), { prefer: 'respond-async, handling=lenient' })).status).toBe(
      202,
    );
  });

  it('refuses query parameters, unknown functions and unknown media types', async () => {
    const query = await rig.post(`${CALLS}?wait=5`, text('a'));
    expect([query.status, query.json.field]).toEqual([400, 'wait']);
    const missing = await rig.post('/v1/functions/none/calls', text('a'));
    expect([missing.status, missing.json.code]).toEqual([404, 'function_not_found']);
    const media = await rig.post(CALLS, 'a', { 'content-type': 'text/plain' });
    expect([media.status, media.json.code]).toEqual([415, 'unsupported_media_type']);
    expect(media.json.detail).toMatch(/content-type is "text\/plain"; this route takes application\/json/);
    const bare = await rig.ask(CALLS, { method: 'POST' });
    expect(bare.status).toBe(415);
    const html = await rig.post(CALLS, text('a'), { prefer: 'wait=1', accept: 'text/html' });
    expect([html.status, html.json.code]).toEqual([406, 'not_acceptable']);
  });

  it('in broken Arrow is 400', async () => {
    const stream = rowsToStream({ text: ['a', 'b'] });
    for (const bytes of [
      stream.subarray(0, stream.length - 20),
      new Uint8Array(0),
      Buffer.from('PAR1PAR1'),
    ]) {
      const { status, json } = await rig.post(CALLS, bytes, { 'content-type': ARROW_STREAM });
      expect([status, json.code]).toEqual([400, 'invalid_arrow']);
    }
    const other = await rig.post(CALLS, rowsToStream({ number: [1] }), { 'content-type': ARROW_STREAM });
    expect([other.status, other.json.code]).toEqual([400, 'schema_mismatch']);
  });
});

describe('a body', () => {
  it('may be compressed', async () => {
    const body = Buffer.from(JSON.stringify(text('a', 'b')));
    for (const [encoding, bytes] of [
      ['gzip', gzipSync(body)],
      ['zstd', zstdCompressSync(body)],
    ] as const) {
      const { status, json } = await rig.post(CALLS, bytes, { 'content-encoding': encoding });
      expect([status, json.rows]).toEqual([202, 2]);
    }
  });

  it('is limited in decoded bytes: a bomb is 413', async () => {
    const bomb = Buffer.alloc(50 * 2 ** 20, ' ');
    for (const [encoding, bytes] of [
      ['gzip', gzipSync(bomb)],
      ['zstd', zstdCompressSync(bomb)],
    ] as const) {
      expect(bytes.length).toBeLessThan(64 * 1024);
      const { status, json } = await rig.post(CALLS, bytes, { 'content-encoding': encoding });
      expect([status, json.code]).toEqual([413, 'payload_too_large']);
    }
  });

  it('is 415 in an unknown encoding and 400 when it does not decode', async () => {
    const unknown = await rig.post(CALLS, text('a'), { 'content-encoding': 'lzma' });
    expect([unknown.status, unknown.json.code]).toEqual([415, 'unsupported_media_type']);
    expect((await rig.post(CALLS, text('a'), { 'content-encoding': 'gzip' })).status).toBe(400);
  });

  it('above the limit is 413, with a length or without', async () => {
    const large = JSON.stringify(text('x'.repeat(70_000)));
    const known = await rig.post(CALLS, large);
    expect([known.status, known.json.code]).toEqual([413, 'payload_too_large']);
    const stream = new ReadableStream({
      start: (controller) => {
        controller.enqueue(Buffer.from(large));
        controller.close();
      },
    });
    const chunked = await rig.ask(CALLS, {
      ...{ method: 'POST', body: stream, duplex: 'half' },
      headers: { 'content-type': 'application/json' },
    } as RequestInit);
    expect(chunked.status).toBe(413);
  });
});

describe('an idempotency key', () => {
  it('names its call also where a newer version takes no such body', async () => {
    const key = { 'idempotency-key': 'before' };
    await rig.deploy('renamed');
    const first = await rig.post('/v1/functions/renamed/calls', text('a'), key);
    const inputs = [{ name: 'other', type: 'int32', nullable: false }];
    await rig.deploy('renamed', { inputs });
    const again = await rig.post('/v1/functions/renamed/calls', text('a'), key);
    expect([again.status, again.json.call_id]).toEqual([202, first.json.call_id]);
    const changed = await rig.post('/v1/functions/renamed/calls', text('b'), key);
    expect([changed.status, changed.json.code]).toEqual([422, 'idempotency_mismatch']);
    const fresh = await rig.post('/v1/functions/renamed/calls', text('a'), { 'idempotency-key': 'after' });
    expect([fresh.status, fresh.json.code]).toEqual([400, 'schema_mismatch']);
  });

  it('attaches the same body to the same call, and refuses another', async () => {
    const key = { 'idempotency-key': 'once' };
    const first = await rig.post(CALLS, text('a'), key);
    const again = await rig.post(CALLS, text('a'), { ...key, 'x-other': 'header' });
    expect(again.status).toBe(202);
    expect(again.json).toEqual({ ...first.json, attached: true });
    const other = await rig.post(CALLS, text('b'), key);
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_mismatch']);
    const option = await rig.post(CALLS, text('a'), { ...key, 'sluice-priority': '1' });
    expect(option.status).toBe(422);
  });

  it('makes one call of many submissions at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => rig.post(CALLS, text('c'), { 'idempotency-key': 'storm' })),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    expect(new Set(answers.map(({ json }) => json.call_id)).size).toBe(1);
    expect(answers.filter(({ json }) => json.attached === undefined)).toHaveLength(1);
  });
});

describe('Prefer: wait', () => {
  it('answers the result with its times when it is ready in time', async () => {
    await rig.deploy('waited', { max_batching_size: 1 });
    const versionId = await versionIdOf(rig.store, 'waited');
    const admitted = new Promise<void>((resolve) => {
      rig.store.queue.watch({ kind: 'waiting' }, (calls) => {
        if (calls.some((call) => call.versionId === versionId)) resolve();
      });
    });
    const asked = rig.post('/v1/functions/waited/calls', text('a', 'b'), { prefer: 'wait=30' });
    await admitted;
    await settleAll(rig.store, versionId, (_, row) => ({ value: row + 10 }));
    const { status, headers, json } = await asked;
    expect([status, headers.get('preference-applied')]).toEqual([200, 'wait']);
    expect(json).toMatchObject({ status: 'completed', rows: 2, result: [10, 11], errors: [] });
    expect(headers.get('x-handler-ms')).toBe('2.5');
    expect(Number(headers.get('x-queue-ms'))).toBeGreaterThanOrEqual(0);
    expect(headers.get('x-call-id')).toBe(json.call_id);
  });

  it('is 202 when the time is over, and the call lives', async () => {
    const { status, json } = await rig.post(CALLS, text('a'), { prefer: 'wait=0.05' });
    expect(status).toBe(202);
    expect((await rig.ask(`/v1/calls/${json.call_id}`)).json.status).toBe('pending');
  });

  it('tells how far the call has come when the time is over', async () => {
    await rig.deploy('slow', { max_batching_size: 1 });
    const versionId = await versionIdOf(rig.store, 'slow');
    const asked = rig.post('/v1/functions/slow/calls', text('a', 'b'), { prefer: 'wait=1' });
    const { queue } = rig.store;
    let callId = 0;
    await expect
      .poll(async () => {
        const { calls } = await queue.open({ versionId, after: 0, limit: 1 });
        callId = calls[0]?.callId ?? 0;
        return callId;
      })
      .toBeGreaterThan(0);
    const until = Date.now() + 60_000;
    await queue.offer({ now: Date.now(), workerId: 'w', versionId, idle: 1, prefetch: 0, until });
    const slices = [{ callId, from: 0, count: 1 }];
    await queue.seal({ now: Date.now(), versionId, slices, reason: 'size', fence: '' });
    await queue.lease({ now: Date.now(), workerId: 'w', versionId, leaseMs: 60_000, max: 1 });
    const { status, json } = await asked;
    expect([status, json.status, typeof json.started_at]).toEqual([202, 'running', 'string']);
  });

  it('answers attached calls, finished ones too', async () => {
    await rig.deploy('attached');
    const versionId = await versionIdOf(rig.store, 'attached');
    const headers = { 'idempotency-key': 'k' };
    const first = await rig.post('/v1/functions/attached/calls', text('a'), headers);
    const waiting = rig.post('/v1/functions/attached/calls', text('a'), { ...headers, prefer: 'wait=30' });
    await settleAll(rig.store, versionId, () => ({ value: 1 }));
    expect((await waiting).json).toMatchObject({ call_id: first.json.call_id, result: [1] });
    const late = await rig.post('/v1/functions/attached/calls', text('a'), { ...headers, prefer: 'wait=30' });
    expect(late.json).toMatchObject({ call_id: first.json.call_id, result: [1] });
  });

  it('cancels nothing when the caller goes', async () => {
    await rig.deploy('left');
    const versionId = await versionIdOf(rig.store, 'left');
    const gone = new AbortController();
    const admitted = new Promise<number>((resolve) => {
      rig.store.queue.watch({ kind: 'waiting' }, (calls) => {
        for (const call of calls) if (call.versionId === versionId) resolve(call.callId);
      });
    });
    const asked = rig.ask('/v1/functions/left/calls', {
      method: 'POST',
      body: JSON.stringify(text('a')),
      headers: { 'content-type': 'application/json', prefer: 'wait=60' },
      signal: gone.signal,
    });
    const callId = await admitted;
    gone.abort();
    await expect(asked).rejects.toThrow();
    expect(await rig.store.queue.call(callId)).toMatchObject({ status: 'pending' });
  });
});
