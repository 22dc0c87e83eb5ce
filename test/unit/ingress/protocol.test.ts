import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { type Rig, raw, startRig } from './rig.ts';

let rig: Rig;
const BODY = '{"columns":{"text":["a"]}}';
const head = (more: string, line = 'POST /v1/functions/len/calls HTTP/1.1'): string =>
  `${line}\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n${more}\r\n`;
const problemIn = (answer: string) => JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4));
const statusOf = (answer: string): number => Number(answer.slice(9, 12));

beforeAll(async () => {
  rig = await startRig();
  await rig.deploy('len');
});
afterAll(() => rig.stop());

describe('what is not there', () => {
  it('is a problem document: 404, and 405 with Allow', async () => {
    const missing = await rig.ask('/v9/nothing');
    expect([missing.status, missing.headers.get('content-type')]).toEqual([404, 'application/problem+json']);
    expect(missing.json).toMatchObject({
      ...{ type: 'https://sluice.dev/errors/not_found', status: 404, code: 'not_found', retryable: false },
      ...{
        title: expect.any(String),
        fix: expect.any(String),
        detail: expect.stringContaining('/v9/nothing'),
      },
    });
    const put = await rig.ask('/v1/functions/len/calls', { method: 'PUT', body: BODY });
    expect([put.status, put.headers.get('allow'), put.json.code]).toEqual([
      405,
      'POST',
      'method_not_allowed',
    ]);
    const options = await rig.ask('/v1/functions', { method: 'OPTIONS' });
    expect([options.status, options.headers.get('access-control-allow-origin')]).toEqual([405, null]);
  });

  it('is a problem document for broken escapes as well', async () => {
    const answer = await raw(rig.port, head('', 'GET /v1/calls/%zz HTTP/1.1'));
    expect(statusOf(answer)).toBe(400);
    expect(problemIn(answer).code).toBe('invalid_request');
  });
});

describe('an error before a route is found', () => {
  const long = 'a'.repeat(300);
  it.each([
    ['GET /v1/embeddings', 405, 'method_not_allowed'],
    ['DELETE /v1/chat/completions', 405, 'method_not_allowed'],
    ['GET /v1/files/%zz', 400, 'invalid_request'],
    ['GET /v1/batches/%zz', 400, 'invalid_request'],
    [`GET /v1/files/${long}`, 404, 'not_found'],
    ['GET /v1/completions/nothing', 404, 'not_found'],
  ])('has the shape of OpenAI: %.40s', async (line, status, code) => {
    const answer = await raw(rig.port, head('', `${line} HTTP/1.1`));
    expect(statusOf(answer)).toBe(status);
    expect(problemIn(answer)).toEqual({ error: expect.objectContaining({ code, param: null }) });
    expect(answer).toMatch(/\r\nx-request-id: [\w-]+\r\n/);
  });

  it.each([
    ['POST /v2/models/%zz/infer', 400, 'invalid_request'],
    [`GET /v2/models/${long}`, 404, 'not_found'],
    ['PUT /v2/health/live', 405, 'method_not_allowed'],
  ])('has the shape of the Open Inference Protocol: %.40s', async (line, status, code) => {
    const answer = await raw(rig.port, head('', `${line} HTTP/1.1`));
    expect(statusOf(answer)).toBe(status);
    expect(problemIn(answer)).toEqual({ error: expect.stringContaining(`(${code})`) });
    expect(answer).toMatch(/\r\nx-request-id: [\w-]+\r\n/);
  });
});

describe('broken HTTP', () => {
  it.each([
    ['no HTTP', 'nonsense\r\n\r\n', 400],
    ['a wrong content length', head('content-length: five\r\n'), 400],
    ['two content lengths', head('content-length: 5\r\ncontent-length: 6\r\n'), 400],
    ['a length and chunks', `${head('content-length: 5\r\ntransfer-encoding: chunked\r\n')}0\r\n\r\n`, 400],
    ['a negative content length', head('content-length: -5\r\n'), 400],
    ['headers without end', head(`x-long: ${'x'.repeat(20_000)}\r\n`), 431],
    ['a broken chunk', `${head('transfer-encoding: chunked\r\n')}zz\r\n`, 400],
    ['a header without a name', head(': x\r\n'), 400],
  ])('with %s is a problem document', async (_what, text, status) => {
    const answer = await raw(rig.port, text);
    expect(statusOf(answer)).toBe(status);
    expect(problemIn(answer)).toMatchObject({ status, code: 'invalid_request' });
    expect(answer).toMatch(/\r\nx-request-id: [\w-]+\r\n/);
  });

  it('with a body shorter than its length admits nothing, and the server lives', async () => {
    const before = (await rig.ask('/v1/calls')).json.calls.length;
    const { connect } = await import('node:net');
    await new Promise<void>((resolve) => {
      const socket = connect(rig.port, '127.0.0.1', () => {
        socket.write(head(`content-length: ${BODY.length + 50}\r\n`) + BODY, () => socket.destroy());
      });
      socket.on('close', () => resolve());
    });
    expect((await rig.ask('/v1/calls')).json.calls.length).toBe(before);
    expect((await rig.ask('/livez')).status).toBe(200);
  });

  it('with a body longer than its length is cut there, and the rest is no request', async () => {
    const text = head(`content-length: ${BODY.length}\r\n`).replace('close', 'keep-alive');
    const answer = await raw(rig.port, `${text + BODY}trailing rubbish\r\n\r\n`);
    const [first, second] = answer.split(/(?=HTTP\/1\.1 )/);
    expect([statusOf(first!), statusOf(second!)].sort()).toEqual([202, 400]);
  });

  it('takes a body that comes in pieces', async () => {
    const { connect } = await import('node:net');
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const pieces = [head(`content-length: ${BODY.length}\r\n`), BODY.slice(0, 3), BODY.slice(3)];
      const socket = connect(rig.port, '127.0.0.1');
      socket.setNoDelay(true);
      const next = (): void => {
        const piece = pieces.shift();
        if (piece !== undefined) socket.write(piece, () => setImmediate(next));
      };
      socket.on('connect', next);
      socket.on('data', (chunk) => {
        text += chunk;
      });
      socket.on('close', () => resolve(text));
    });
    expect(statusOf(answer)).toBe(202);
  });
});

describe('headers', () => {
  it('mean the same in capitals, in quotes, and in UTF-8', async () => {
    const arrow = rowsToStream({ text: ['a'] }, [{ name: 'text', type: 'utf8', nullable: false }]);
    const capital = { 'content-type': 'Application/vnd.Apache.Arrow.Stream' };
    expect((await rig.post('/v1/functions/len/calls', arrow, capital)).status).toBe(202);
    const identity = { 'content-encoding': 'Identity' };
    expect((await rig.post('/v1/functions/len/calls', BODY, identity)).status).toBe(202);
    const quoted = { prefer: 'foo="a, wait=wrong", respond-async' };
    expect((await rig.post('/v1/functions/len/calls', BODY, quoted)).status).toBe(202);
    const lane = Buffer.from('é', 'utf8').toString('latin1');
    const answer = await rig.post('/v1/functions/len/calls', BODY, { 'sluice-lane': lane });
    expect(answer.json.lane).toBe('é');
  });

  it('that expect what is not there are answered with a problem document', async () => {
    const answer = await raw(rig.port, `${head('expect: wonders\r\n', 'GET /v1/functions HTTP/1.1')}`);
    expect(statusOf(answer)).toBe(417);
    expect(problemIn(answer).field).toBe('Expect');
  });
});

describe('duplicate headers', () => {
  it('that change the meaning are refused', async () => {
    const text =
      head(`idempotency-key: a\r\nidempotency-key: b\r\ncontent-length: ${BODY.length}\r\n`) + BODY;
    const answer = await raw(rig.port, text);
    // Node joins them with a comma: it is one key that no client sent twice alike.
    expect([202, 400]).toContain(statusOf(answer));
    const priority =
      head(`sluice-priority: 1\r\nsluice-priority: 2\r\ncontent-length: ${BODY.length}\r\n`) + BODY;
    expect(problemIn(await raw(rig.port, priority)).field).toBe('Sluice-Priority');
  });
});

describe('a server without keys', () => {
  it('answers to loopback names only, so that no rebound name reaches it', async () => {
    const ask = (host: string, more = ''): Promise<string> =>
      raw(rig.port, `GET /v1/functions HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n${more}\r\n`);
    for (const host of ['localhost', 'localhost:7700', '127.0.0.1:1', '[::1]:7700', 'sluice.localhost']) {
      expect(statusOf(await ask(host))).toBe(200);
    }
    for (const host of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example:7700', '0.0.0.0']) {
      const answer = await ask(host);
      expect([statusOf(answer), problemIn(answer).field]).toEqual([403, 'Host']);
    }
    const page = await ask('localhost', 'origin: http://evil.example\r\n');
    expect([statusOf(page), problemIn(page).field]).toEqual([403, 'Origin']);
    expect(statusOf(await ask('localhost:7700', 'origin: http://localhost:7700\r\n'))).toBe(200);
  });
});

describe('the server itself', () => {
  it('tells what it is, whether it is ready, and its contract', async () => {
    const { json } = await rig.ask('/v1/server');
    expect(json).toMatchObject({ store: 'embedded', durability: 'memory', usage: { full: false } });
    expect((await rig.ask('/readyz')).json).toEqual({ status: 'ready' });
    const openapi = (await rig.ask('/openapi.json')).json;
    expect(openapi.openapi).toBe('3.1.0');
    const submit = openapi.paths['/v1/functions/{name}/calls'].post;
    expect(Object.keys(submit.requestBody.content)).toEqual([
      'application/json',
      'application/vnd.apache.arrow.stream',
    ]);
    expect(Object.keys(submit.responses)).toEqual(
      expect.arrayContaining(['200', '202', '400', '413', '422', '429', '507']),
    );
    for (const [path, methods] of Object.entries(
      openapi.paths as Record<string, Record<string, { responses: object }>>,
    )) {
      for (const [method, operation] of Object.entries(methods)) {
        expect(Object.keys(operation.responses), `${method} ${path}`).toContainEqual(
          expect.stringMatching(/^2/),
        );
        // An artifact is streamed, and takes no part in what bodies may hold of the memory.
        const refusals = path.includes('/artifacts/') ? ['413', '415'] : ['413', '415', '429'];
        for (const status of ['get', 'head'].includes(method) ? [] : refusals)
          expect(operation.responses, `${method} ${path}`).toHaveProperty(status);
        const { '204': done } = operation.responses as Record<string, object>;
        if (done !== undefined) expect(done, `${method} ${path}`).not.toHaveProperty('content');
      }
    }
  });

  it('counts what it did over all threads', async () => {
    await Promise.all(Array.from({ length: 20 }, () => rig.post('/v1/functions/len/calls', BODY)));
    const { text } = await rig.ask('/metrics');
    const admitted = /^sluice_calls_admitted_total\{function="len"\} (\d+)$/m.exec(text);
    const { calls } = (await rig.ask('/v1/calls?function=len&limit=1000')).json;
    expect(Number(admitted?.[1])).toBe(calls.length);
    const sum = (metric: string): number =>
      [...text.matchAll(new RegExp(`^${metric}\\{function="len".*\\} (\\d+)$`, 'gm'))]
        .map(([, value]) => Number(value))
        .reduce((a, b) => a + b, 0);
    expect(text).toMatch(/^sluice_queue_rows\{function="len",state="waiting"\} \d+$/m);
    for (const outcome of ['ok', 'failed', 'cancelled', 'expired'])
      expect(text).toMatch(
        new RegExp(`^sluice_rows_ended\\{function="len",outcome="${outcome}"\\} \\d+$`, 'm'),
      );
    // The ledger balances.
    expect(sum('sluice_rows_admitted_total')).toBe(sum('sluice_queue_rows') + sum('sluice_rows_ended'));
    expect(text).toMatch(
      /^sluice_http_requests_total\{route="POST \/v1\/functions\/\{name\}\/calls",status="202"\} \d+$/m,
    );
  });

  it("gives each answer a request id, the caller's own where it is one", async () => {
    const own = await rig.post('/v1/functions/len/calls', BODY, { 'x-request-id': 'mine-1' });
    expect(own.headers.get('x-request-id')).toBe('mine-1');
    const listed = ['/v1/functions', '/v1/functions/len', '/v1/calls', '/v1/keys', '/v1/server'];
    for (const route of [...listed, '/v1/models', '/v1/files', '/v2', '/livez', '/metrics', '/', '/nothing'])
      for (const method of ['GET', 'HEAD'])
        expect(
          (await fetch(rig.address + route, { method })).headers.get('x-request-id'),
          route,
        ).not.toBeNull();
    await rig.deploy('gone');
    const removed = await rig.ask('/v1/functions/gone', { method: 'DELETE' });
    expect([removed.status, removed.headers.get('x-request-id')]).toEqual([204, expect.any(String)]);
    const odd = await rig.post('/v1/functions/len/calls', BODY, { 'x-request-id': 'a b"c' });
    expect(odd.headers.get('x-request-id')).toMatch(/^[\w-]+$/);
  });
});
