/** Traces as a user gets them: OpenTelemetry's variables, callers with traceparents, and a collector that is there or not. */
import { afterEach, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { OtlpReceiver, type ReceivedSpan } from '../support/otlp-receiver.ts';
import { eventually, type Home, SluiceServer } from '../support/sluice-process.ts';
import { onEveryStore, onRedis } from '../support/stores.ts';

const FUNCTIONS = 'test/fixtures/functions/traced.py';

type Caller = { readonly traceId: string; readonly spanId: string; readonly traceparent: string };

/** Callers with a trace each; `flags`: 01 where it is sampled. */
const callers = (count: number, flags = '01'): Caller[] =>
  Array.from({ length: count }, (_, at) => {
    const traceId = (at + 1).toString(16).padStart(32, flags === '01' ? 'a' : 'b');
    const spanId = (at + 1).toString(16).padStart(16, 'c');
    return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${flags}` };
  });

type Result = { readonly result: readonly (string | null)[] };

const call = async (url: string, name: string, headers: Record<string, string>): Promise<Result> => {
  const answer = await fetch(`${url}/v1/functions/${name}/calls`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=60', ...headers },
    body: JSON.stringify({ columns: { value: [1] } }),
  });
  expect(answer.status).toBe(200);
  return (await answer.json()) as Result;
};

const callAll = (url: string, name: string, from: readonly Caller[]): Promise<Result[]> =>
  Promise.all(from.map(({ traceparent }) => call(url, name, { traceparent })));

const idOf = ({ traceId, spanId }: ReceivedSpan): string => `${traceId}-${spanId}`;

const envOf = (url: string): Record<string, string> => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_BSP_SCHEDULE_DELAY: '50',
  SLUICE_INGRESS_THREADS: '2',
});

const open: SluiceServer[] = [];
const homes: Home[] = [];
const started = async (options: Parameters<typeof SluiceServer.start>[0]): Promise<SluiceServer> => {
  const server = await SluiceServer.start(options);
  open.push(server);
  return server;
};
afterEach(async () => {
  for (const server of open.splice(0)) await server.dispose();
  for (const home of homes.splice(0)) await home.remove();
});

onEveryStore((store) => {
  const traced = async (
    env: Record<string, string> = {},
    collector?: string,
  ): Promise<{ collector: OtlpReceiver; server: SluiceServer }> => {
    const receiver = await OtlpReceiver.start();
    const home = await store.makeHome();
    homes.push(home);
    const server = await started({ home, env: { ...envOf(collector ?? receiver.url), ...env } });
    await server.deploy(FUNCTIONS);
    return { collector: receiver, server };
  };

  it('gives each call a span in the trace of its caller, and the batch one that links to them all', async () => {
    const { collector, server } = await traced({
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test,host.name=here',
    });
    await using _ = collector;
    const from = callers(3);
    const [first] = await Promise.all([
      call(server.url, 'traced', { traceparent: from[0]!.traceparent, tracestate: 'vendor=7' }),
      ...from.slice(1).map(({ traceparent }) => call(server.url, 'traced', { traceparent })),
    ]);
    const calls = await collector.received('sluice.call', 3);
    const [batch] = await collector.received('sluice.batch traced', 1);
    expect(calls.map(({ traceId, parentSpanId }) => `${traceId}-${parentSpanId}`).toSorted()).toEqual(
      from.map(({ traceId, spanId }) => `${traceId}-${spanId}`),
    );
    expect(calls.find(({ traceId }) => traceId === from[0]!.traceId)?.traceState).toBe('vendor=7');
    for (const { attributes } of calls)
      expect(attributes).toMatchObject({
        'sluice.function': 'traced',
        'sluice.rows': 1,
        'sluice.call': expect.stringMatching(/^c/),
      });
    expect(batch!.links.toSorted()).toEqual(calls.map(idOf).toSorted());
    expect(batch!.attributes).toMatchObject({
      'sluice.calls': 3,
      'sluice.end': 'ok',
      'sluice.reason': 'size',
    });
    expect(first!.result).toEqual([`00-${idOf(batch!)}-01`]);
    expect([...collector.paths]).toEqual(['POST /v1/traces']);
    for (const { resource } of [batch!, ...calls])
      expect(resource).toMatchObject({
        'service.name': 'sluice',
        'sluice.role': 'all',
        'host.name': 'here',
        'deployment.environment.name': 'test',
      });
  });

  it('records what its callers have sampled, whatever came before', async () => {
    const { collector, server } = await traced({ OTEL_SERVICE_NAME: 'embedder' });
    await using _ = collector;
    const unsampled = callers(3, '00');
    const sampled = callers(2);
    const quiet = await callAll(server.url, 'traced', unsampled);
    await callAll(server.url, 'traced', [unsampled[0]!, ...sampled]);
    await server.kill('SIGTERM');
    const calls = collector.spans.filter(({ name }) => name === 'sluice.call');
    const batches = collector.spans.filter(({ name }) => name === 'sluice.batch traced');
    expect(calls.map(({ traceId }) => traceId).toSorted()).toEqual(sampled.map(({ traceId }) => traceId));
    expect(batches).toHaveLength(1);
    expect(batches[0]!.links.toSorted()).toEqual(
      [...calls.map(idOf), `${unsampled[0]!.traceId}-${unsampled[0]!.spanId}`].toSorted(),
    );
    expect(batches[0]!.resource['service.name']).toBe('embedder');
    expect(quiet.map(({ result }) => result)).toEqual([[''], [''], ['']]);
  });

  it('links to two hundred calls of one batch', async () => {
    const { collector, server } = await traced();
    await using _ = collector;
    await callAll(server.url, 'traced_many', callers(200));
    const calls = await collector.received('sluice.call', 200);
    const [batch] = await collector.received('sluice.batch traced_many', 1);
    expect(batch!.links.toSorted()).toEqual(calls.map(idOf).toSorted());
    expect(batch!.attributes).not.toHaveProperty('sluice.links_dropped');
  });

  it('cuts links where it is told to, and says how many', async () => {
    const { collector, server } = await traced({ OTEL_SPAN_LINK_COUNT_LIMIT: '2' });
    await using _ = collector;
    const [unsampled] = callers(1, '00');
    await callAll(server.url, 'traced', [unsampled!, ...callers(2)]);
    const calls = await collector.received('sluice.call', 2);
    const [batch] = await collector.received('sluice.batch traced', 1);
    expect(batch!.links.toSorted()).toEqual(calls.map(idOf).toSorted());
    expect(batch!.attributes['sluice.links_dropped']).toBe(1);
  });

  it('marks a batch that failed and a call that was refused, and sends what is left at its stop', async () => {
    const { collector, server } = await traced({
      OTEL_BSP_SCHEDULE_DELAY: '600000',
      SLUICE_QUEUE_BYTES_MAX: '1000',
    });
    await using _ = collector;
    await call(server.url, 'traced_failure', {});
    const refused = await fetch(`${server.url}/v1/functions/traced/calls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ columns: { value: Array.from({ length: 500 }, () => 1_234_567) } }),
    });
    expect(refused.status).toBe(413);
    expect(collector.spans).toEqual([]);
    expect(await server.kill('SIGTERM')).toBe(0);
    const [batch] = collector.spans.filter(({ name }) => name === 'sluice.batch traced_failure');
    expect(batch!.status).toEqual({ code: 2, message: 'there is no such number' });
    expect(batch!.attributes).toMatchObject({ 'error.type': 'ValueError', 'sluice.end': 'error' });
    const calls = collector.spans.filter(({ name }) => name === 'sluice.call');
    expect(calls.map(({ status, attributes }) => [status.code, attributes['error.type']]).toSorted()).toEqual(
      [
        [0, undefined],
        [2, 'payload_too_large'],
      ],
    );
  });

  it('goes on without a collector, says so once, and sends again when it is there', async () => {
    const port = await freePort();
    const { collector: unused, server } = await traced(
      { OTEL_EXPORTER_OTLP_TIMEOUT: '200' },
      `http://127.0.0.1:${port}`,
    );
    await unused[Symbol.asyncDispose]();
    const said = (text: string): number => server.log.split(text).length - 1;
    for (const round of [1, 2, 3]) {
      await callAll(server.url, 'traced', callers(3));
      await eventually(
        `the collector is missed in round ${round}`,
        async () => said('takes traces') === 0 && said('does not take traces') === 1,
      );
    }
    await using collector = await OtlpReceiver.start(port);
    await eventually('traces come again', async () => {
      await callAll(server.url, 'traced', callers(3));
      return collector.spans.length > 0;
    });
    await eventually('it is said', async () => said('takes traces again') === 1);
    expect(said('does not take traces')).toBe(1);
    expect(await server.kill('SIGTERM')).toBe(0);
  });

  it('leaves when a collector never answers', async () => {
    const port = await freePort();
    const { collector, server } = await traced({}, `http://127.0.0.1:${port}`);
    await using _ = collector;
    await callAll(server.url, 'traced', callers(3));
    expect(await server.kill('SIGTERM')).toBe(0);
    expect(server.log.split('does not take traces')).toHaveLength(2);
  });

  it.each([
    ['OTEL_SDK_DISABLED', 'true'],
    ['OTEL_TRACES_EXPORTER', 'none'],
    ['OTEL_TRACES_SAMPLER', 'always_off'],
  ])(
    'sends nothing where %s is %s, and hands the trace of a call that is alone to the handler',
    async (variable, value) => {
      const { collector, server } = await traced({ [variable]: value });
      await using _ = collector;
      const [caller] = callers(1);
      const [answer] = await callAll(server.url, 'traced_alone', [caller!]);
      expect(answer!.result).toEqual([caller!.traceparent]);
      expect(await server.kill('SIGTERM')).toBe(0);
      expect(collector.spans).toEqual([]);
    },
  );
});

onRedis((store) => {
  it('traces one row through the roles', async () => {
    await using collector = await OtlpReceiver.start();
    const home = await store.makeHome();
    homes.push(home);
    const env = envOf(collector.url);
    const [ingress] = await Promise.all(
      ['ingress', 'buffer', 'worker'].map((role) => started({ home, args: ['--role', role], env })),
    );
    await ingress!.deploy(FUNCTIONS);
    const [caller] = callers(1);
    await callAll(ingress!.url, 'traced', [caller!, ...callers(2, '00')]);
    const [made] = await collector.received('sluice.call', 1);
    const [batch] = await collector.received('sluice.batch traced', 1);
    expect(made).toMatchObject({ traceId: caller!.traceId, parentSpanId: caller!.spanId });
    expect(made!.resource['sluice.role']).toBe('ingress');
    expect(batch!.links).toContain(idOf(made!));
    expect(batch!.resource['sluice.role']).toBe('worker');
  });
});
