/** The Open Inference Protocol on real servers, on every store: a stop in the middle of an inference, and threads that share its port. */
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { INFERENCE_SERVICE } from '../../services/ingress/oip/grpc-service.ts';
import { eventually, type Home, SluiceServer } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

type Answer = { readonly error: Error | null; readonly value: { raw_output_contents: Buffer[] } };

const grpcOf = (server: SluiceServer): string => /gRPC on ([\w.:]+)/.exec(server.log)![1]!;

const infer = (client: Client, model: string, values: readonly bigint[]): Promise<Answer> => {
  const { path, requestSerialize, responseDeserialize } = INFERENCE_SERVICE.ModelInfer!;
  const message = {
    model_name: model,
    inputs: [{ name: 'value', datatype: 'INT64', shape: [values.length] }],
    raw_input_contents: [Buffer.from(new BigInt64Array(values).buffer)],
  };
  return new Promise((resolve) => {
    const deadline = Date.now() + 60_000;
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      message,
      new Metadata(),
      { deadline },
      (error, value) => resolve({ error, value }),
    );
  });
};

const post = (server: SluiceServer, model: string, data: readonly number[]): Promise<Response> =>
  fetch(`${server.url}/v2/models/${model}/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [{ name: 'value', datatype: 'INT64', shape: [data.length], data }] }),
  });

onEveryStore((store) => {
  const open: SluiceServer[] = [];
  const homes: Home[] = [];
  const clients: Client[] = [];
  const started = async (args: readonly string[] = []): Promise<SluiceServer> => {
    const home = await store.makeHome();
    homes.push(home);
    const server = await SluiceServer.start({ home, args: ['--grpc-port', '0', ...args] });
    open.push(server);
    return server;
  };
  const clientOf = (server: SluiceServer): Client => {
    // Each has a connection of its own, which grpc-js would share among clients of one address.
    const client = new Client(grpcOf(server), credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    clients.push(client);
    return client;
  };
  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    for (const server of open.splice(0)) await server.dispose();
    for (const home of homes.splice(0)) await home.remove();
  });

  describe('SIGTERM', () => {
    type Told = { readonly value: number | null; readonly refusal: string };
    const FORMS: readonly (readonly [string, (server: SluiceServer, value: number) => Promise<Told>])[] = [
      [
        'HTTP',
        async (server, value) => {
          const answer = await post(server, 'slow', [value]);
          const json = (await answer.json()) as { outputs?: { data: number[] }[]; error?: string };
          return { value: json.outputs?.[0]?.data[0] ?? null, refusal: json.error ?? '' };
        },
      ],
      [
        'gRPC',
        async (server, value) => {
          const answer = await infer(clientOf(server), 'slow', [BigInt(value)]);
          const raw = answer.error === null ? answer.value.raw_output_contents[0]! : null;
          return { value: raw && Number(raw.readBigInt64LE()), refusal: answer.error?.message ?? '' };
        },
      ],
    ];

    /** The handler runs one row at a time: of two, one runs and the other has not begun. */
    it.each(FORMS)(
      'answers what runs over %s, refuses what has not begun, and leaves with 0',
      async (_, ask) => {
        const server = await started();
        await server.deploy('test/fixtures/functions/slow.py');
        const both = [ask(server, 1), ask(server, 2)];
        await eventually('both are there', async () => {
          const { calls } = (await (await fetch(`${server.url}/v1/calls?function=slow`)).json()) as {
            calls: { status: string }[];
          };
          return calls.length === 2 && calls.some(({ status }) => status === 'running');
        });
        const exit = server.kill('SIGTERM');
        const told = await Promise.all(both);
        const answered = told.filter(({ value }) => value !== null);
        expect(answered, JSON.stringify(told)).toHaveLength(1);
        expect([1, 2]).toContain(answered[0]!.value);
        expect(told.find(({ value }) => value === null)!.refusal).toContain('(shutting_down)');
        expect(await exit, server.log).toBe(0);
      },
    );
  });

  it('is served by every thread on the one port', async () => {
    const server = await started(['--ingress-threads', '3']);
    await server.deploy('test/fixtures/functions/double.py');
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, i) => infer(clientOf(server), 'double', [BigInt(i)])),
    );
    const doubled = answers.map(({ value }) => Number(value.raw_output_contents[0]!.readBigInt64LE()));
    expect(doubled).toEqual(Array.from({ length: 24 }, (_, i) => i * 2));
  });
});
