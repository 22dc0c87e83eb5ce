/** A real ingress on a real store in a directory of its own. Batches are sealed and settled here, where a test wants results. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { makeIngress } from '../../../services/ingress/pool.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { compileSettings } from '../../../shared/config/settings.ts';
import type { RowError } from '../../../shared/domain/call.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import type { FunctionJson } from '../../../shared/wire/api.ts';

export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON; tests look at members that a type would only repeat. */
  // biome-ignore lint/suspicious/noExplicitAny: answers of every route come through here
  readonly json: any;
};

export type Rig = {
  readonly address: string;
  readonly port: number;
  /** `host:port`; null without a grpcPort. */
  readonly grpcAddress: string | null;
  readonly store: Store;
  readonly ask: (route: string, init?: RequestInit) => Promise<Answer>;
  readonly post: (route: string, body: unknown, headers?: Record<string, string>) => Promise<Answer>;
  readonly deploy: (name: string, more?: object) => Promise<FunctionJson>;
  readonly stopIngress: () => Promise<void>;
  /** As the store tells it, to all threads. */
  readonly loseData: (detail: string) => void;
  readonly stop: () => Promise<void>;
};

export const openStore = (directory: string) =>
  openEmbeddedStore({
    directory,
    durability: 'memory',
    limitBytes: 2 ** 33,
    reserveBytes: 0,
    queueRowsMax: 1_000_000,
    queueBytesMax: 2 ** 32,
    retentionMs: 3_600_000,
    acknowledgedRetentionMs: 60_000,
  });

export const spec = (name: string, more: object = {}): object => ({
  name,
  runtime: 'node',
  handler: { file: 'f.js', attribute: 'f' },
  inputs: [{ name: 'text', type: 'utf8', nullable: false }],
  output: { type: 'int64', nullable: true },
  max_batching_size: 8,
  source: [{ path: 'f.js', content: '' }],
  ...more,
});

export const startRig = async (raw: Record<string, string> = {}): Promise<Rig> => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-ingress-'));
  const server = await openStore(directory);
  const store = server.connect();
  const settings = compileSettings({
    port: '0',
    ingressThreads: '1',
    grace: '10s',
    logLevel: 'silent',
    ...raw,
  });
  const ingress = makeIngress({ settings, server, log: silentLog() });
  await ingress.start();
  const address = ingress.address();
  const ask = async (route: string, init: RequestInit = {}): Promise<Answer> => {
    const response = await fetch(address + route, init);
    const text = await response.text();
    const isJson = /json/.test(response.headers.get('content-type') ?? '');
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: isJson ? JSON.parse(text) : null,
    };
  };
  const post: Rig['post'] = (route, body, headers = {}) =>
    ask(route, {
      method: 'POST',
      body: typeof body === 'string' || body instanceof Uint8Array ? (body as never) : JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...headers },
    });
  return {
    address,
    port: Number(new URL(address).port),
    grpcAddress: ingress.grpcAddress(),
    store,
    ask,
    post,
    deploy: async (name, more = {}) => (await post('/v1/functions', { function: spec(name, more) })).json,
    stopIngress: () => ingress.stop(),
    loseData: (detail) => ingress.lose({ code: 'data_lost', detail }),
    stop: async () => {
      await ingress.stop();
      await store.close();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};

export type Row = { readonly value: unknown } | { readonly error: RowError };

/** Runs everything that waits for the version: seals, leases, settles with what `rowOf` says of each row. */
export const settleAll = async (
  store: Store,
  versionId: number,
  rowOf: (callId: number, row: number) => Row,
  type: TypeJson = 'int64',
): Promise<void> => {
  const { queue } = store;
  const { calls } = await queue.open({ versionId, after: 0, limit: 10_000 });
  const until = Date.now() + 60_000;
  await queue.offer({ now: Date.now(), workerId: 'w', versionId, idle: 1000, prefetch: 0, until });
  for (const { callId, from, rows } of calls) {
    const slices = [{ callId, from, count: rows }];
    await queue.seal({ now: Date.now(), versionId, slices, reason: 'drain', fence: '' });
  }
  const request = { now: Date.now(), workerId: 'w', versionId, leaseMs: 60_000, max: 1000 };
  for (const batch of await queue.lease(request)) {
    const rows = batch.slices.flatMap(({ callId, from, count }) =>
      Array.from({ length: count }, (_, i) => ({ callId, from: from + i, row: rowOf(callId, from + i) })),
    );
    const field: FieldJson = { name: 'result', type, nullable: true };
    const values = rows.map(({ row }) => ('value' in row ? row.value : null));
    await queue.settle({
      now: Date.now(),
      batchId: batch.batchId,
      token: batch.token,
      outcomes: rows.map(({ callId, from, row }, outputRow) =>
        'value' in row
          ? { callId, from, count: 1, state: 'ok' as const, outputRow }
          : { callId, from, count: 1, state: 'failed' as const, error: row.error },
      ),
      output: rowsToStream({ result: values }, [field]),
      continuations: [],
      startedAt: Date.now(),
      handlerMs: 2.5,
    });
  }
};

export const versionIdOf = async (store: Store, name: string): Promise<number> =>
  (await store.registry.function(name))!.current.id;

/** Sends bytes as they are and gives all that comes back until the server closes. */
export const raw = (port: number, ...chunks: readonly (string | Uint8Array)[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
    });
    socket.on('close', () => resolve(text));
    socket.on('error', (error) => (text === '' ? reject(error) : resolve(text)));
    for (const chunk of chunks) socket.write(chunk);
  });
