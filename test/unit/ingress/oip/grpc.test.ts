/** `inference.GRPCInferenceService` on a real ingress, from a client of grpc-js on the same definition. */
import { once } from 'node:events';
import { connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { INFERENCE_SERVICE } from '../../../../services/ingress/oip/grpc-service.ts';
import { eventually } from '../../../support/sluice-process.ts';
import { TcpProxy } from '../../../support/tcp-proxy.ts';
import { type Rig, settleAll, startRig, versionIdOf } from '../rig.ts';

const FLOATS = {
  inputs: [{ name: 'x', type: 'float32', nullable: false }],
  output: { type: 'float32', nullable: true },
};

// biome-ignore lint/suspicious/noExplicitAny: answers of every method come through here
type Message = any;
type Outcome = { error: ServiceError | null; message: Message; metadata: Metadata };
type Asked = { readonly outcome: Promise<Outcome>; readonly cancel: () => void };

const clients: Client[] = [];
const clientOf = (rig: Rig): Client => {
  const limits = { 'grpc.max_send_message_length': -1, 'grpc.max_receive_message_length': -1 };
  const client = new Client(rig.grpcAddress!, credentials.createInsecure(), limits);
  clients.push(client);
  return client;
};

const ask = (
  client: Client,
  method: string,
  message: object = {},
  { metadata = new Metadata(), deadlineMs = 60_000 } = {},
): Asked => {
  const { path, requestSerialize, responseDeserialize } = INFERENCE_SERVICE[method]!;
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const seen = { metadata: new Metadata() };
  const call = client.makeUnaryRequest(
    path,
    requestSerialize,
    responseDeserialize,
    message,
    metadata,
    { deadline: Date.now() + deadlineMs },
    (error, answer) => resolve({ error, message: answer, ...seen }),
  );
  call.on('metadata', (given) => {
    seen.metadata = given;
  });
  return { outcome: promise, cancel: () => call.cancel() };
};

let shared: Rig;
let rig: Rig;
let client: Client;
beforeAll(async () => {
  shared = await startRig({ grpcPort: '0' });
  await shared.deploy('f', FLOATS);
});
beforeEach(() => {
  rig = shared;
  client = clientOf(rig);
});
afterEach(async () => {
  for (const one of clients.splice(0)) one.close();
  if (rig !== shared) await rig.stop();
});
afterAll(() => shared.stop());

const waiting = (name = 'f') =>
  eventually('a call waits', async () => {
    const versionId = await versionIdOf(rig.store, name);
    const { calls } = await rig.store.queue.open({ versionId, after: 0, limit: 100 });
    return calls.length === 1 && calls[0];
  });

const floats = (values: readonly number[]): Buffer => Buffer.from(new Float32Array(values).buffer);
const rawRequest = (values: readonly number[], more: object = {}) => ({
  model_name: 'f',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [values.length] }],
  raw_input_contents: [floats(values)],
  ...more,
});

const answered = async (
  message: object,
  name = 'f',
  rowOf: Parameters<typeof settleAll>[2] = (_, row) => ({ value: row }),
  type: Parameters<typeof settleAll>[3] = 'float32',
): Promise<Outcome> => {
  const { outcome } = ask(client, 'ModelInfer', message);
  await waiting(name);
  await settleAll(rig.store, await versionIdOf(rig.store, name), rowOf, type);
  return outcome;
};

const statusOf = async (callId: number): Promise<string> =>
  ((await rig.store.queue.call(callId)) as { status: string }).status;
const cancelled = (callId: number) =>
  eventually('the call is cancelled', async () => (await statusOf(callId)) === 'cancelled');

describe('the server', () => {
  it('lives, is ready, and says what it is', async () => {
    expect((await ask(client, 'ServerLive').outcome).message).toEqual({ live: true });
    expect((await ask(client, 'ServerReady').outcome).message).toEqual({ ready: true });
    expect((await ask(client, 'ServerMetadata').outcome).message).toMatchObject({ name: 'sluice' });
  });

  it('shows models, and refuses those that are not there', async () => {
    const { message } = await ask(client, 'ModelMetadata', { name: 'f' }).outcome;
    expect(message.inputs).toEqual([{ name: 'x', datatype: 'FP32', shape: ['-1'] }]);
    expect((await ask(client, 'ModelReady', { name: 'f' }).outcome).message).toEqual({ ready: false });
    const { models } = (await ask(client, 'RepositoryIndex').outcome).message;
    expect(models).toMatchObject([{ name: 'f', state: 'UNAVAILABLE' }]);
    for (const method of ['ModelMetadata', 'ModelReady'])
      expect((await ask(client, method, { name: 'nope' }).outcome).error?.code).toBe(status.NOT_FOUND);
  });

  it('survives bytes that are no gRPC', async () => {
    const { hostname, port } = new URL(`http://${rig.grpcAddress}`);
    const socket = connect(Number(port), hostname);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.write(`GET / HTTP/1.1\r\nhost: x\r\n\r\n${'x'.repeat(1000)}`);
    socket.resume();
    await closed;
    expect((await ask(client, 'ServerLive').outcome).message).toEqual({ live: true });
  });
});

describe('messages that do not come', () => {
  const headers = { 'content-type': 'application/grpc', te: 'trailers', ':method': 'POST' };
  /** Calls of which there are headers alone. */
  const begun = async (count: number, method: string, more: Record<string, string> = {}) => {
    const session = connectHttp2(`http://${rig.grpcAddress}`);
    session.on('error', () => undefined);
    await once(session, 'connect');
    const streams = Array.from({ length: count }, () => {
      const path = `/inference.GRPCInferenceService/${method}`;
      const stream = session.request({ ...headers, ':path': path, ...more }, { endStream: false });
      stream.on('error', () => undefined);
      return stream;
    });
    return { session, streams };
  };
  const modelReady = async (metadata?: Metadata) =>
    (await ask(client, 'ModelReady', { name: 'f' }, metadata && { metadata }).outcome).error;
  beforeEach(async () => {
    rig = await startRig({ grpcPort: '0', ingressThreads: '1' });
    await rig.deploy('f', FLOATS);
    client = clientOf(rig);
  });

  it('hold 64 places of a thread, which those that leave give back', async () => {
    const { session, streams } = await begun(64, 'ModelInfer');
    const refused = await eventually('no place is left', async () => (await modelReady()) ?? false);
    expect([refused.code, refused.metadata.get('retry-after')]).toEqual([status.RESOURCE_EXHAUSTED, ['1']]);
    for (const stream of streams) stream.close();
    await eventually('places are free', async () => (await modelReady()) === null);
    session.destroy();
  });

  it('of methods that need no key keep nobody out who has one', async () => {
    const { session } = await begun(64, 'ServerLive');
    await eventually(
      'no place is left',
      async () => (await ask(client, 'ServerReady').outcome).error !== null,
    );
    expect(await modelReady()).toBeNull();
    session.destroy();
  });

  it('leave no place taken where their caller goes while its key is looked for', async () => {
    const { json } = await rig.post('/v1/keys', { name: 'root', scopes: ['admin'] });
    const authorization = `Bearer ${json.secret ?? json.key}`;
    const { session, streams } = await begun(64, 'ModelInfer', { authorization });
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
    const metadata = new Metadata();
    metadata.set('authorization', authorization);
    await eventually('places are free', async () => (await modelReady(metadata)) === null);
    session.destroy();
  });
});

describe('a message that is refused before it is read', () => {
  const input = { name: 'x', datatype: 'FP32', shape: [1] };
  it.each<[string, object, RegExp]>([
    ['has 4,097 inputs', { inputs: Array(4097).fill(input) }, /more than 4096 parts/],
    [
      'has 33 dimensions of many bytes',
      { inputs: [{ ...input, shape: Array(33).fill(-1) }] },
      /32 dimensions/,
    ],
    [
      'has elements without end',
      { inputs: [{ ...input, contents: { bytes_contents: Array(2 ** 20 + 1).fill(Buffer.alloc(0)) } }] },
      /more than 1048576 elements/,
    ],
  ])('%s', async (_, message, told) => {
    const { error } = await ask(client, 'ModelInfer', { model_name: 'f', ...message }).outcome;
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, details: expect.stringMatching(told) });
  });

  it.each([
    ['a field that is cut off', [0x2a, 0x7f, 1, 2]],
    ['a group, behind which it could hide', [0x9b, 0x06, 0x9c, 0x06]],
    ['a length of more bits than lengths have', [0x2a, 0x80, 0x80, 0x80, 0x80, 0x10]],
    ['a length of more bytes than it needs', [0x2a, 0x80, 0x80, 0x80, 0x80, 0x80, 0]],
    ['a number without an end', [0x08, ...Array(11).fill(0xff)]],
    ['text that is no UTF-8 tag', [0xff]],
  ])('has %s', async (_, bytes) => {
    const { path, responseDeserialize } = INFERENCE_SERVICE.ModelInfer!;
    const error = await new Promise<ServiceError | null>((resolve) => {
      client.makeUnaryRequest(path, () => Buffer.from(bytes), responseDeserialize, {}, resolve);
    });
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(error?.details).toMatch(/no ModelInferRequest/);
  });
});

describe('an inference', () => {
  it('answers raw contents with raw contents, and says how long it took', async () => {
    const { error, message, metadata } = await answered(rawRequest([1, 2], { id: 'mine' }));
    expect(error).toBeNull();
    expect(message).toMatchObject({
      ...{ model_name: 'f', id: 'mine' },
      outputs: [{ name: 'result', datatype: 'FP32', shape: ['2'], contents: null }],
    });
    expect(message.raw_output_contents).toEqual([floats([0, 1])]);
    expect(metadata.get('x-handler-ms')).toEqual(['2.5']);
    expect(metadata.get('x-call-id')).toHaveLength(1);
  });

  it.each<[string, string, string, unknown[], unknown[]]>([
    ['bool', 'BOOL', 'bool_contents', [true, false], [true, false]],
    ['int8', 'INT8', 'int_contents', [-128, 127], [-128, 127]],
    ['int16', 'INT16', 'int_contents', [-1, 1], [-1, 1]],
    ['int32', 'INT32', 'int_contents', [-1, 2 ** 31 - 1], [-1, 2 ** 31 - 1]],
    ['int64', 'INT64', 'int64_contents', ['-9223372036854775808'], ['-9223372036854775808']],
    ['uint8', 'UINT8', 'uint_contents', [255], [255]],
    ['uint16', 'UINT16', 'uint_contents', [65_535], [65_535]],
    ['uint32', 'UINT32', 'uint_contents', [2 ** 32 - 1], [2 ** 32 - 1]],
    ['uint64', 'UINT64', 'uint64_contents', ['18446744073709551615'], ['18446744073709551615']],
    ['float32', 'FP32', 'fp32_contents', [0.5, NaN], [0.5, NaN]],
    ['float64', 'FP64', 'fp64_contents', [0.1, Infinity], [0.1, Infinity]],
    ['utf8', 'BYTES', 'bytes_contents', [Buffer.from('é')], [Buffer.from('é')]],
  ])('answers typed contents of %s with typed contents', async (type, datatype, member, sent, wanted) => {
    const name = `echo_${type}`;
    await rig.deploy(name, {
      inputs: [{ name: 'x', type, nullable: false }],
      output: { type, nullable: true },
    });
    const request = {
      model_name: name,
      inputs: [{ name: 'x', datatype, shape: [sent.length], contents: { [member]: sent } }],
    };
    const values = sent.map((value) => (Buffer.isBuffer(value) ? value.toString() : value));
    const { error, message } = await answered(request, name, (_, row) => ({ value: values[row] }), type);
    expect(error).toBeNull();
    expect(message.outputs[0].contents[member]).toEqual(wanted);
    expect(message.raw_output_contents).toEqual([]);
  });

  it('tells which row failed, and why', async () => {
    const failed = {
      error: { code: 'handler_error', kind: 'KeyError', message: `"k" 漢 ${'x'.repeat(5000)}` },
    };
    const { error } = await answered(rawRequest([1, 2]), 'f', (_, row) =>
      row === 1 ? failed : { value: 0 },
    );
    expect(error!.code).toBe(status.INTERNAL);
    expect(error!.details).toMatch(/row 1 failed with KeyError: "k" 漢 x+….*\(handler_error\)$/);
    expect(error!.metadata.get('sluice-error')).toEqual(['handler_error']);
  });

  const input = (more: object) => ({
    model_name: 'f',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1], ...more }],
  });
  it.each<[string, object, RegExp]>([
    [
      'contents of another type',
      input({ contents: { int_contents: [1] } }),
      /has int_contents; send fp32_contents/,
    ],
    ['no contents', input({}), /"x" has 0 elements/],
    [
      'FP16 in contents',
      input({ datatype: 'FP16', contents: { fp32_contents: [1] } }),
      /send raw_input_contents/,
    ],
    [
      'both forms',
      { ...input({ contents: { fp32_contents: [1] } }), raw_input_contents: [floats([1])] },
      /both/,
    ],
    [
      'a tensor too few',
      { ...input({}), raw_input_contents: [floats([1]), floats([1])] },
      /has 2 tensors, inputs has 1/,
    ],
    ['bytes that are too few', { ...input({}), raw_input_contents: [Buffer.alloc(3)] }, /3 bytes.*has 4/],
    ['a negative shape', input({ shape: [-1] }), /\[-1\]/],
    ['a shape above all', input({ shape: ['9223372036854775807'] }), /dimension is an integer/],
    ['an unknown datatype', input({ datatype: 'FP8' }), /"FP8"/],
    [
      'a narrow integer out of range',
      input({ datatype: 'INT8', contents: { int_contents: [128] } }),
      /128.*no INT8/,
    ],
    ['no inputs', { model_name: 'f' }, /no inputs/],
    [
      'a timeout that is no number',
      rawRequest([1], { parameters: { timeout: { string_param: 'soon' } } }),
      /timeout is "soon"/,
    ],
    ['an unknown output', { ...rawRequest([1]), outputs: [{ name: 'other' }] }, /"other"/],
  ])('refuses %s', async (_, message, wanted) => {
    const { error } = await ask(client, 'ModelInfer', message).outcome;
    expect(error!.code).toBe(status.INVALID_ARGUMENT);
    expect(error!.details).toMatch(wanted);
  });

  it('refuses messages above the limit, as they come or decompressed, and goes on', async () => {
    const large = { ...rawRequest([1]), raw_input_contents: [Buffer.alloc(65 * 2 ** 20)] };
    const { error } = await ask(client, 'ModelInfer', large).outcome;
    expect([error!.code, error!.details]).toEqual([
      status.RESOURCE_EXHAUSTED,
      expect.stringMatching(/larger than max/),
    ]);
    const zipped = new Client(rig.grpcAddress!, credentials.createInsecure(), {
      ...{ 'grpc.default_compression_algorithm': 2, 'grpc.max_send_message_length': -1 },
    });
    clients.push(zipped);
    expect(gzipSync(Buffer.alloc(65 * 2 ** 20)).length).toBeLessThan(2 ** 20);
    const bomb = await ask(zipped, 'ModelInfer', large).outcome;
    expect(bomb.error!.code).toBe(status.RESOURCE_EXHAUSTED);
    expect((await answered(rawRequest([1]))).error).toBeNull();
  });
});

describe('a call that nobody waits for any more', () => {
  it('is cancelled with the request', async () => {
    const { outcome, cancel } = ask(client, 'ModelInfer', rawRequest([1]));
    const call = await waiting();
    cancel();
    expect((await outcome).error!.code).toBe(status.CANCELLED);
    await cancelled(call.callId);
  });

  it('is cancelled when the connection breaks', async () => {
    const proxy = await TcpProxy.start(Number(new URL(`http://${rig.grpcAddress}`).port));
    const far = new Client(`127.0.0.1:${proxy.port}`, credentials.createInsecure());
    clients.push(far);
    const { outcome } = ask(far, 'ModelInfer', rawRequest([1]));
    const call = await waiting();
    await proxy.stop();
    expect((await outcome).error!.code).toBe(status.UNAVAILABLE);
    await cancelled(call.callId);
  });

  it("is over with the client's deadline, or that of its parameter", async () => {
    const slow = ask(client, 'ModelInfer', rawRequest([1]), { deadlineMs: 300 });
    const call = await waiting();
    expect(call.deadlineAt! - call.arrivedAt).toBeLessThanOrEqual(300);
    expect((await slow.outcome).error!.code).toBe(status.DEADLINE_EXCEEDED);
    await eventually('the call is over', async () => /cancelled|expired/.test(await statusOf(call.callId)));
    const timed = ask(
      client,
      'ModelInfer',
      rawRequest([1], { parameters: { timeout: { int64_param: '200000' } } }),
    );
    const { error } = await timed.outcome;
    expect([error!.code, error!.details]).toEqual([
      status.DEADLINE_EXCEEDED,
      expect.stringContaining('within 200 ms'),
    ]);
  });

  it('is cancelled by a drain, which tells its client to come again', async () => {
    rig = await startRig({ grpcPort: '0' });
    await rig.deploy('f', FLOATS);
    client = clientOf(rig);
    const { outcome } = ask(client, 'ModelInfer', rawRequest([1]));
    const call = await waiting();
    await rig.stopIngress();
    const { error } = await outcome;
    expect([error!.code, error!.metadata.get('retry-after')]).toEqual([status.UNAVAILABLE, ['2']]);
    expect(await statusOf(call.callId)).toBe('cancelled');
  });
});

describe('keys', () => {
  it('come in metadata, and are asked for before a message is read', async () => {
    rig = await startRig({ grpcPort: '0' });
    await rig.deploy('f', FLOATS);
    client = clientOf(rig);
    const made = async (name: string, scopes: string[], headers = {}): Promise<{ metadata: Metadata }> => {
      const { json } = await rig.post('/v1/keys', { name, scopes }, headers);
      const metadata = new Metadata();
      metadata.set('authorization', `Bearer ${json.secret ?? json.key}`);
      return { metadata };
    };
    const admin = await made('root', ['admin']);
    const deployer = await made('d', ['deploy'], {
      authorization: String(admin.metadata.get('authorization')[0]),
    });
    const none = rawRequest([]);
    expect((await ask(client, 'ModelInfer', none).outcome).error!.code).toBe(status.UNAUTHENTICATED);
    const wrong = new Metadata();
    wrong.set('authorization', 'Bearer wrong');
    expect((await ask(client, 'ModelReady', { name: 'f' }, { metadata: wrong }).outcome).error!.code).toBe(
      status.UNAUTHENTICATED,
    );
    expect((await ask(client, 'ModelInfer', none, deployer).outcome).error!.code).toBe(
      status.PERMISSION_DENIED,
    );
    expect((await ask(client, 'ModelInfer', none, admin).outcome).error).toBeNull();
    expect((await ask(client, 'ServerLive').outcome).message).toEqual({ live: true });
  });
});

it('a port that another listens on is refused by its setting', async () => {
  const port = new URL(`http://${shared.grpcAddress}`).port;
  await expect(startRig({ grpcPort: port })).rejects.toThrow(
    /--grpc-port is \d+.*another process listens there/,
  );
});
