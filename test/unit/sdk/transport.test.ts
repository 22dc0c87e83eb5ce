import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { Sluice } from '../../../sdk/index.ts';
import { backOffMs } from '../../../sdk/transport.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ARROW_STREAM } from '../../../shared/wire/api.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** A server that gives the answers in turn, the last one for ever, and keeps what it was asked. */
const answering = async (...answers: Answer[]): Promise<{ url: string; requests: IncomingMessage[] }> => {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    request.resume();
    request.on('end', () => answers[Math.min(requests.length, answers.length) - 1]!(request, response));
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
};

const problem =
  (status: number, code: string, headers: Record<string, string> = {}): Answer =>
  (_, response) => {
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
    response.end(JSON.stringify({ code, detail: `the detail of ${code}`, status }));
  };
const json =
  (status: number, value: unknown): Answer =>
  (_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };
const cut: Answer = (request) => request.socket.destroy();

describe('requests', () => {
  it('are sent again with the same idempotency key when the answer is lost or the server is full', async () => {
    const { url, requests } = await answering(
      json(200, { functions: [] }),
      cut,
      problem(429, 'queue_full', { 'retry-after': '0' }),
      problem(503, 'shutting_down'),
      json(202, { call_id: 'c1', rows: 1 }),
    );
    const client = new Sluice({ url, apiKey: 'secret' });
    await client.functions();
    const handle = await client.function('f').deferBatch([{ text: 'a' }]);
    expect(handle.callId).toBe('c1');
    const keys = requests.slice(1).map(({ headers }) => headers['idempotency-key']);
    expect(keys).toHaveLength(4);
    expect(new Set(keys).size).toBe(1);
    expect(requests.every(({ headers }) => headers.authorization === 'Bearer secret')).toBe(true);
  });

  it('end with the problem of the last answer when the retries are spent', async () => {
    const { url, requests } = await answering(problem(429, 'queue_full', { 'retry-after': '0' }));
    const failed = new Sluice({ url, retries: 2 }).functions();
    await expect(failed).rejects.toMatchObject({
      name: 'SluiceError',
      code: 'queue_full',
      message: 'the detail of queue_full',
      status: 429,
      retryable: true,
    });
    expect(requests).toHaveLength(3);
  });

  it('are not sent again when the caller is wrong', async () => {
    const { url, requests } = await answering(problem(422, 'idempotency_mismatch'));
    await expect(new Sluice({ url }).function('f').deferBatch([{ text: 'a' }])).rejects.toMatchObject({
      code: 'idempotency_mismatch',
    });
    expect(requests).toHaveLength(1);
  });

  it('that make an API key are not sent again after a lost answer', async () => {
    const { url, requests } = await answering(cut);
    await expect(new Sluice({ url }).createKey('ci', ['call'])).rejects.toMatchObject({
      name: 'ConnectionError',
    });
    expect(requests).toHaveLength(1);
  });

  it('say how to start a server when nothing answers', async () => {
    const { url } = await answering(json(200, {}));
    for (const close of closers.splice(0)) await close();
    const failed = new Sluice({ url }).functions();
    await expect(failed).rejects.toThrow(`No Sluice server answers at ${url} (ECONNREFUSED)`);
    await expect(failed).rejects.toThrow('sluice dev');
  });

  it('keep what an answer that is not JSON says', async () => {
    const { url } = await answering((_, response) => {
      response.writeHead(502, { 'content-type': 'text/html' });
      response.end('<h1>Bad gateway</h1>');
    });
    await expect(new Sluice({ url, retries: 0 }).functions()).rejects.toMatchObject({
      code: 'internal',
      message: '<h1>Bad gateway</h1>',
    });
  });

  it('stop when the signal aborts', async () => {
    const abort = new AbortController();
    const { url } = await answering(() => abort.abort(new Error('enough')));
    const call = new Sluice({ url }).function('f').deferBatch([{ text: 'a' }], { signal: abort.signal });
    await expect(call).rejects.toThrow('enough');
  });

  it('carry a lane of any letters, and refuse a key that is none at once', async () => {
    const { url, requests } = await answering(json(202, { call_id: 'c', status: 'pending', rows: 1 }));
    await new Sluice({ url }).function('f').deferBatch({ text: ['a'] }, { lane: 'lé中文' });
    const sent = requests.at(-1)!.headers['sluice-lane'] as string;
    expect(Buffer.from(sent, 'latin1').toString()).toBe('lé中文');
    expect(() => new Sluice({ url, apiKey: 'k☃' })).toThrow(/characters that no key has/);
  });

  it('wait longer each time, up to a limit, and never in step', () => {
    expect([0, 1, 2, 10, 40].map((attempt) => backOffMs(attempt, 1))).toEqual([
      100, 200, 400, 10_000, 10_000,
    ]);
    expect(backOffMs(3, 0)).toBe(400);
  });

  it('go to a url that is one', () => {
    expect(() => new Sluice({ url: 'localhost:7700' })).toThrow('it must begin with http:// or https://');
    expect(() => new Sluice({ url: 'nonsense' })).toThrow('The url is "nonsense"');
  });
});

/** A result of 10,000 rows, whole or broken off in its middle. */
const rows = Array.from({ length: 10_000 }, (_, i) => `row ${i}`);
const RESULT = rowsToStream({ result: rows }, [{ name: 'result', type: 'utf8', nullable: true }]);
const begin: Answer = (_, response) => {
  response.writeHead(200, { 'content-type': ARROW_STREAM, 'content-length': RESULT.length });
  response.write(RESULT.subarray(0, 100_000));
};
const whole: Answer = (_, response) => void response.end(RESULT);
const broken: Answer = (request, response) => {
  begin(request, response);
  response.write(RESULT.subarray(100_000, 110_000), () => request.socket.destroy());
};

describe('an answer that breaks off in its middle', () => {
  it('is asked for again, a submission with its key', async () => {
    const { url, requests } = await answering(broken, broken, whole);
    expect(await new Sluice({ url }).call('c1').get()).toEqual(rows);
    requests.splice(0);
    expect(await new Sluice({ url }).function('f').call([{ text: 'a' }])).toEqual(rows);
    expect(requests).toHaveLength(3);
    expect(new Set(requests.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
  });

  it('is a ConnectionError when the retries are spent, or where it cannot be asked for again', async () => {
    const { url } = await answering(broken);
    const error = { name: 'ConnectionError', message: expect.stringContaining('broke off (UND_ERR_SOCKET)') };
    const client = new Sluice({ url, retries: 1 });
    await expect(client.call('c1').get()).rejects.toMatchObject(error);
    await expect(client.call('c1').status()).rejects.toMatchObject(error);
    await expect(client.createKey('ci', ['call'])).rejects.toMatchObject(error);
  });
});

describe('the end of a wait', () => {
  const silent: Answer = () => undefined;
  const full = problem(429, 'queue_full', { 'retry-after': '60' });

  it.each([
    ['closes connections', cut],
    ['is silent', silent],
    ['is silent in the middle of an answer', begin],
    ['is full for longer', full],
  ])(
    'is kept where the server %s',
    async (_, answer) => {
      const { url } = await answering(json(200, { functions: [] }), answer);
      const client = new Sluice({ url });
      await client.functions();
      const late = { name: 'TimeoutError', timeoutMs: 200 };
      const f = client.function('f');
      await Promise.all([
        expect(client.call('c1').get({ timeoutMs: 200 })).rejects.toMatchObject({ ...late, callId: 'c1' }),
        expect(f.call([{ text: 'a' }], { timeoutMs: 200 })).rejects.toMatchObject({ ...late, callId: null }),
        expect(f.call(['a'], { timeoutMs: 200 })).rejects.toMatchObject({ ...late, callId: null }),
        expect(client.scalingGroups.waitReady('g', { timeoutMs: 200 })).rejects.toMatchObject(late),
      ]);
    },
    25_000,
  );

  it('is at once where nobody waits, and what is there is taken', async () => {
    const { url, requests } = await answering(problem(409, 'result_not_ready'), whole, cut);
    const handle = new Sluice({ url }).call('c1');
    await expect(handle.get({ timeoutMs: 0 })).rejects.toMatchObject({ name: 'TimeoutError', callId: 'c1' });
    expect(await handle.get({ timeoutMs: 0 })).toEqual(rows);
    await expect(handle.get({ timeoutMs: 0 })).rejects.toMatchObject({ name: 'ConnectionError' });
    expect(requests.map((request) => request.url)).toEqual(Array(3).fill('/v1/calls/c1/result?wait=0.000'));
  });

  it('leaves the server less to wait with each try', async () => {
    const { url, requests } = await answering(cut, json(202, { call_id: 'c1' }), whole);
    const called = new Sluice({ url }).function('f').call([{ text: 'a' }], { timeoutMs: 20_000 });
    expect(await called).toEqual(rows);
    const waits = requests.slice(0, 2).map(({ headers }) => Number(String(headers.prefer).slice(5)));
    expect(waits[0]).toBeLessThanOrEqual(20);
    expect(waits[1]).toBeLessThan(waits[0]!);
  });
});

describe('chunks', () => {
  const silent: Answer = () => undefined;
  const accepted = json(202, { call_id: 'c1' });
  const options = { chunkSize: 1, concurrentChunks: 1 };
  /** Resolves with the answer to be given once the server has a request of the method, which it leaves without one. */
  const held = (): { hold: Answer; come: Promise<ServerResponse> } => {
    const { promise, resolve } = Promise.withResolvers<ServerResponse>();
    return { hold: (_, response) => resolve(response), come: promise };
  };

  it('and submissions that a silent server keeps are over with their timeout', async () => {
    const { url } = await answering(silent);
    const f = new Sluice({ url }).function('f');
    const late = { name: 'TimeoutError', callId: null, timeoutMs: 100 };
    const chunked = (rows: readonly unknown[], onError: 'throw' | 'null') =>
      f.chunkedCall(rows, { ...options, timeoutMs: 100, onError });
    const lenient = chunked([{ x: 1 }, { x: 2 }], 'null');
    await Promise.all([
      expect(chunked([{ x: 1 }, { x: 2 }], 'throw')).rejects.toMatchObject({
        name: 'ChunkFailedError',
        cause: late,
        message: expect.stringContaining('the server had not answered after 100 ms'),
      }),
      expect(chunked([1, 2], 'throw')).rejects.toMatchObject(late),
      expect(f.deferBatch([{ x: 1 }], { timeoutMs: 100 })).rejects.toMatchObject(late),
      expect(f.deferBatch([1], { timeoutMs: 100 })).rejects.toMatchObject(late),
    ]);
    expect((await lenient).result).toEqual([null, null]);
    expect((await lenient).errors.get(1)).toMatchObject({ code: 'row_cancelled' });
  });

  it('and calls stop waiting at once when their signal aborts', async () => {
    const { url, requests } = await answering(silent);
    const abort = new AbortController();
    const { signal } = abort;
    const f = () => new Sluice({ url }).function('f');
    const ends = [
      f().chunkedCall([{ x: 1 }], { ...options, signal }),
      f().chunkedCall([1], { ...options, signal }),
      f().deferBatch([1], { signal }),
      f().call([1], { signal }),
    ].map((end) => expect(end).rejects.toThrow('enough'));
    await expect.poll(() => requests.length).toBe(4);
    abort.abort(new Error('enough'));
    await Promise.all(ends);
  });

  it('that are accepted after the abort are cancelled', async () => {
    const [submission, cancel] = [held(), held()];
    const { url, requests } = await answering(submission.hold, cancel.hold);
    const abort = new AbortController();
    const running = new Sluice({ url })
      .function('f')
      .chunkedCall([{ x: 1 }], { ...options, signal: abort.signal });
    const ended = expect(running).rejects.toThrow('enough');
    const response = await submission.come;
    abort.abort(new Error('enough'));
    await ended;
    accepted(requests[0]!, response);
    await cancel.come;
    expect([requests[1]!.method, requests[1]!.url]).toEqual(['DELETE', '/v1/calls/c1']);
  });

  it('whose acceptance was lost are found by their key and cancelled', async () => {
    const [submission, cancel] = [held(), held()];
    const { url, requests } = await answering(cut, submission.hold, cancel.hold);
    const running = new Sluice({ url }).function('f').chunkedCall([{ x: 1 }], { ...options, timeoutMs: 1 });
    const ended = expect(running).rejects.toMatchObject({ cause: { name: 'TimeoutError' } });
    const response = await submission.come;
    await ended;
    accepted(requests[1]!, response);
    await cancel.come;
    expect(requests[2]!.method).toBe('DELETE');
    expect(requests[1]!.headers['idempotency-key']).toBe(requests[0]!.headers['idempotency-key']);
  });

  it('that were refused are not sent again once they are unwanted', async () => {
    const { url, requests } = await answering(problem(429, 'queue_full', { 'retry-after': '60' }));
    const abort = new AbortController();
    const batch = { kind: 'columns', columns: { x: [1] }, rows: 1 } as const;
    const submission = new Sluice({ url }).function('f').submit(batch, {}, { unwanted: abort.signal });
    const ended = expect(submission).rejects.toThrow('enough');
    await expect.poll(() => requests.length).toBe(1);
    abort.abort(new Error('enough'));
    await ended;
  });

  it('that a silent server holds are cancelled, and null where that is asked for', async () => {
    const cancel = held();
    const { url } = await answering(accepted, silent, silent, cancel.hold);
    const { result } = await new Sluice({ url })
      .function('f')
      .chunkedCall([{ x: 1 }], { ...options, timeoutMs: 1, onError: 'null' });
    expect(result).toEqual([null]);
    await cancel.come;
  });
});

describe('progress events', () => {
  it('come as they are sent, over a cut connection, until the call is finished', async () => {
    const events = (text: string, isCut: boolean): Answer => {
      return (_, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(text, () => (isCut ? response.destroy() : response.end()));
      };
    };
    const { url, requests } = await answering(
      events(': hello\n\nevent: progress\ndata: {"status":"running","rows":1}\n\nevent: pro', true),
      events('event: finished\r\ndata: {"status":"completed",\r\ndata: "rows":1}\r\n\r\n', false),
    );
    const seen: string[] = [];
    for await (const call of new Sluice({ url }).call('c1').events()) seen.push(call.status);
    expect(seen).toEqual(['running', 'completed']);
    expect(requests).toHaveLength(2);
  });
});
