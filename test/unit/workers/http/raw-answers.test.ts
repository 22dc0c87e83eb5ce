/** Answers of an engine, byte by byte: which of them are the rows' fault, which are the engine's, and which are none. */
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InputStream, rowsToStream, streamToColumns } from '../../../../shared/arrow/index.ts';
import type { EngineSpec } from '../../../../shared/domain/engine.ts';
import type { HandlerAnswer } from '../../../../workers/handler.ts';
import { EngineConnection, originOf } from '../../../../workers/http/engine-connection.ts';
import { EngineHandler } from '../../../../workers/http/engine-handler.ts';
import { JsonInference } from '../../../../workers/http/json-inference.ts';
import { OipInference } from '../../../../workers/http/oip-inference.ts';
import { askReady } from '../../../../workers/http/probe.ts';
import { CONTEXT } from '../grpc/handler-server.ts';
import { engineSpec, type SpecChanges } from './engine-spec.ts';

const TEXT = { name: 'text', type: 'utf8' as const, nullable: true };
const DEEP = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;

/** Answers every request with these bytes. */
const listening = async (answer: string): Promise<number> => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(answer));
  });
  onTestFinished(() => void server.close());
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
};

const reply = (status: string, body: string): string =>
  `HTTP/1.1 ${status}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

const answered = async (
  protocol: EngineSpec['protocol'],
  answer: string,
  changes: SpecChanges = {},
): Promise<HandlerAnswer> => {
  const spec = engineSpec({ protocol }, changes);
  const connection = new EngineConnection({ host: '127.0.0.1', port: await listening(answer) });
  onTestFinished(() => connection.close());
  const parts = { connection, spec, engine: spec.engine! };
  const inference = protocol === 'json' ? new JsonInference(parts) : new OipInference(parts);
  const handler = new EngineHandler({
    infer: (batch, context, signal) => inference.infer(batch, context, signal),
    onBroken: async () => null,
  });
  const batch = { rows: 1, parts: [new InputStream([rowsToStream({ text: ['a'] }, [TEXT])])] };
  return handler.run(batch, CONTEXT, new AbortController().signal, () => undefined);
};

const tensor = (name: string, data = '["v"]'): string =>
  `"outputs":[{"name":"${name}","datatype":"BYTES","shape":[1],"data":${data}}]`;

describe('plain JSON', () => {
  it.each([
    ['bad row', 'the engine answered 400 to POST /infer: bad row'],
    ['<html>', 'the engine answered 400 to POST /infer: <html>'],
    ['', 'the engine answered 400 to POST /infer'],
    ['null', 'the engine answered 400 to POST /infer: null'],
  ])('a 400 whose body is %j is the rows’ fault all the same', async (body, message) => {
    const error = { code: 'handler_error', kind: 'HTTP 400', message };
    expect(await answered('json', reply('400 Bad Request', body))).toMatchObject({ isFinal: true, error });
  });

  it('that nests without end is a wrong answer', async () => {
    const output = { type: 'json' as const, nullable: true };
    const error = { code: 'handler_output_invalid', kind: 'WrongAnswer' };
    expect(await answered('json', reply('200 OK', DEEP), { output })).toMatchObject({ error });
  });

  it.each([
    ['HTTP/1.0 without a length', 'HTTP/1.0 200 OK\r\n\r\n["x"]'],
    ['trailers', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n["x"]\r\n0\r\na: b\r\n\r\n'],
    ['the same answer twice', reply('200 OK', '["x"]').repeat(2)],
  ])('of %s is read', async (_, bytes) => {
    const answer = await answered('json', bytes);
    if (answer.end !== 'ok') throw new Error(JSON.stringify(answer));
    expect([...(streamToColumns(answer.outputs[0]!.stream).result as unknown[])]).toEqual(['x']);
  });
});

describe('the Open Inference Protocol', () => {
  it.each([
    ['an output named so', `{${tensor('error')}}`],
    ['a model named so', `{"model_name":"error",${tensor('result')}}`],
    ['an error that is null', `{"error":null,${tensor('result')}}`],
  ])('takes no answer for an error because of %s', async (_, body) => {
    expect(await answered('oip-v2', reply('200 OK', body))).toMatchObject({ end: 'ok' });
  });

  it('takes a 200 with an error for one', async () => {
    const error = { kind: 'EngineError', message: 'the engine answered 200 with an error: no weights' };
    expect(await answered('oip-v2', reply('200 OK', '{"error":"no weights"}'))).toMatchObject({ error });
  });

  it('takes data that nest without end for a wrong answer', async () => {
    const body = `{${tensor('result', DEEP).replace('BYTES', 'INT64')}}`;
    const error = { code: 'handler_output_invalid', kind: 'WrongAnswer' };
    expect(await answered('oip-v2', reply('200 OK', body))).toMatchObject({ error });
  });
});

describe('a redirect of a probe', () => {
  it('to the whole URL of the engine is followed, whatever the spelling of its address', async () => {
    const port = await listening(
      'HTTP/1.1 302 Found\r\nlocation: http://127.1:1/\r\ncontent-length: 0\r\n\r\n',
    );
    const address = { host: '127.0.0.1', port };
    const signal = new AbortController().signal;
    const { isGood, text } = await askReady({ address, path: '/', timeoutMs: 5000 }, signal);
    expect([isGood, text]).toEqual([
      false,
      'answered 302, a redirect to http://127.0.0.1:1/, which is not the engine',
    ]);
    for (const one of [
      { host: '10.88.0.5', port: 80 },
      { host: '0:0::5', port: 80 },
      { host: '10.88.0.5', port: 8080 },
    ])
      expect(new URL('/ready/', originOf(one)).origin).toBe(originOf(one));
  });
});
