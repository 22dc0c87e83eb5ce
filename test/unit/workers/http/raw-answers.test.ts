/** Answers of an engine, byte by byte: which of them are the rows' fault, which are the engine's, and which are none. */
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InputStream, openStream, rowsToStream, streamToColumns } from '../../../../shared/arrow/index.ts';
import { textOf } from '../../../../shared/arrow/value-text.ts';
import type { EngineSpec } from '../../../../shared/domain/engine.ts';
import type { FieldJson } from '../../../../shared/domain/function.ts';
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
const listening = async (answer: string | Buffer): Promise<number> => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(answer));
  });
  onTestFinished(() => void server.close());
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
};

const reply = (status: string, body: string | Buffer): Buffer => {
  const head = `HTTP/1.1 ${status}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), Buffer.from(body)]);
};

const answered = async (
  engine: EngineSpec['protocol'] | Pick<EngineSpec, 'protocol' | 'output'>,
  answer: string | Buffer,
  changes: SpecChanges = {},
): Promise<HandlerAnswer> => {
  const spec = engineSpec(typeof engine === 'string' ? { protocol: engine } : engine, changes);
  const connection = new EngineConnection({ host: '127.0.0.1', port: await listening(answer) });
  onTestFinished(() => connection.close());
  const parts = { connection, spec, engine: spec.engine! };
  const inference = spec.engine!.protocol === 'json' ? new JsonInference(parts) : new OipInference(parts);
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

  it.each(['json', 'float64', { list: { name: 'item', type: 'int64', nullable: true } }] as const)(
    'that nests without end is a wrong answer of %o',
    async (type) => {
      const error = {
        ...{ code: 'handler_output_invalid', kind: 'WrongAnswer' },
        message: expect.stringMatching(/: its JSON nests too deep; answer values of fewer levels/),
      };
      for (const body of [DEEP, '['.repeat(1_000_000) + ']'.repeat(1_000_000)])
        expect(
          await answered('json', reply('200 OK', body), { output: { type, nullable: true } }),
        ).toMatchObject({ error });
    },
  );

  it.each<[FieldJson['type'], string, string]>([
    ['json', '9007199254740993', '9007199254740993'],
    ['json', '{"a":[0.12345678901234567891]}', '{"a":[0.12345678901234567891]}'],
    ['int64', '9007199254740993', '9007199254740993'],
    ['int64', '{"id":-9223372036854775808}', '-9223372036854775808'],
    ['uint64', '18446744073709551615', '18446744073709551615'],
    [{ timestamp: 'ns', tz: null }, '1700000000123456789', '"2023-11-14T22:13:20.123456789"'],
    ['float64', '9007199254740993', '9007199254740992'],
  ])('of %o keeps what it can of %s', async (type, value, text) => {
    const output = { type, nullable: true };
    const answer = await answered('json', reply('200 OK', `[${value}]`), { output });
    if (answer.end !== 'ok') throw new Error(JSON.stringify(answer));
    const { batches } = openStream(answer.outputs[0]!.stream);
    expect(textOf(batches[0]!.columns[0]!)(0)).toBe(text);
  });

  it.each<[FieldJson['type'], string | Buffer, RegExp]>([
    ['json', '[{"a":1e999}]', /row 0: .*expected json \(numbers that a double holds\)/],
    ['json', '["\\ud800"]', /row 0: .*without lone surrogates/],
    ['utf8', '["\\ud800"]', /row 0: .*without lone surrogates/],
    ['utf8', Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d]), /: it is not valid UTF-8$/],
    ['float64', '[1e999]', /row 0: is Infinity, expected float64/],
    ['float32', '[1e39]', /row 0: is 1e\+39, expected float32/],
    ['int64', '[9223372036854775808]', /row 0: is 9223372036854775808, expected int64/],
  ])('of %o refuses %s rather than change it', async (type, body, message) => {
    const output = { type, nullable: true };
    const error = { code: 'handler_output_invalid', message: expect.stringMatching(message) };
    expect(await answered('json', reply('200 OK', body), { output })).toMatchObject({ error });
  });

  it.each([
    ['HTTP/1.0 without a length', 'HTTP/1.0 200 OK\r\n\r\n["x"]'],
    ['trailers', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n["x"]\r\n0\r\na: b\r\n\r\n'],
    ['the same answer twice', Buffer.concat([reply('200 OK', '["x"]'), reply('200 OK', '["x"]')])],
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

  const several = (...names: readonly string[]): Buffer => {
    const outputs = names.map((name) => ({ name, datatype: 'BYTES', shape: [1], data: [`of ${name}`] }));
    return reply('200 OK', JSON.stringify({ outputs }));
  };

  it.each([
    ['y', ['y', 'z'], 'of y'],
    ['y', ['result', 'y'], 'of y'],
    ['y', ['other'], 'of other'],
    [undefined, ['result', 'z'], 'of result'],
  ])('takes the output %s of %j', async (output, names, value) => {
    const answer = await answered({ protocol: 'oip-v2', ...(output && { output }) }, several(...names));
    if (answer.end !== 'ok') throw new Error(JSON.stringify(answer));
    expect([...(streamToColumns(answer.outputs[0]!.stream).result as unknown[])]).toEqual([value]);
  });

  it('is told that the only output of its model is not among several', async () => {
    const error = { message: expect.stringMatching(/it has the outputs "result", "z", and none of y$/) };
    expect(await answered({ protocol: 'oip-v2', output: 'y' }, several('result', 'z'))).toMatchObject({
      error,
    });
  });

  it.each([
    ['[]', /: its JSON is not an object\.$/],
    ['[', /: its JSON does not parse: /],
    ['{}', /: outputs is missing; an answer has a list of tensors$/],
  ])('says of the answer %s what is wrong with it', async (body, message) => {
    const error = { code: 'handler_output_invalid', message: expect.stringMatching(message) };
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
