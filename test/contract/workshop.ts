/** A store with one deployed function and the steps that tests take with it. Time is a number that tests move. */
import type { Outcome, RowError, Slice } from '../../shared/domain/call.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import type {
  Admission,
  Admitted,
  Continuation,
  LeasedBatch,
  ResultPart,
  SettleAnswer,
  StoreEvents,
} from '../../shared/store/ports/queue.ts';
import type { StoreServer } from '../../shared/store/ports/server.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { PLAIN_SPEC } from '../support/function-spec.ts';
import type { StoreFactory, StoreHome, StoreLimits } from './factory.ts';

export const START = 1_800_000_000_000;
export const LEASE_MS = 30_000;
export const CLAIMS_MAX = 5;
export const BOOM: RowError = { code: 'handler_error', message: 'boom', kind: 'ValueError' };

export const specOf = (name: string, changes: Partial<FunctionSpec> = {}): FunctionSpec => ({
  ...PLAIN_SPEC,
  name,
  retry: { ...PLAIN_SPEC.retry, retries: 3, initialMs: 10, multiplier: 2, maxMs: 1000 },
  callTimeoutMs: 1000,
  source: [{ path: 'f.py', content: 'Zg==' }],
  ...changes,
});

/** Output bytes that name their rows, so that a test sees whose they are. */
export const outputOf = (batch: LeasedBatch, bytes = 64): Uint8Array =>
  new Uint8Array(bytes).fill(batch.batchId % 251);

export const okOutcomes = (slices: readonly Slice[]): Outcome[] => {
  let row = 0;
  return slices.map((slice) => {
    const outcome: Outcome = { ...slice, state: 'ok', outputRow: row };
    row += slice.count;
    return outcome;
  });
};

export const states = (parts: readonly ResultPart[]): string[] =>
  parts.map(({ state, from, count }) => `${state} ${from}+${count}`);

export class Workshop {
  readonly home: StoreHome;
  server!: StoreServer;
  store!: Store;
  versionId = 0;
  fence = '';
  now = START;

  constructor(home: StoreHome) {
    this.home = home;
  }

  static async make(factory: StoreFactory, overrides: Partial<StoreLimits> = {}): Promise<Workshop> {
    const workshop = new Workshop(await factory.home());
    await workshop.open(overrides);
    return workshop;
  }

  get queue() {
    return this.store.queue;
  }

  async open(overrides: Partial<StoreLimits> = {}): Promise<void> {
    this.server = await this.home.open(overrides);
    this.store = this.server.connect();
    this.versionId = await this.deploy(specOf('f'));
    await this.own('f');
  }

  async reopen(overrides: Partial<StoreLimits> = {}): Promise<void> {
    await this.close();
    await this.open(overrides);
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.server.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await this.home.remove();
  }

  async deploy(spec: FunctionSpec): Promise<number> {
    return (await this.store.registry.deploy({ now: this.now, spec })).record.current.id;
  }

  /** Takes the buffer of a function, so that this client is told of its rows and slots and may seal. */
  async own(functionName: string, memberId = 'shop'): Promise<void> {
    const now = this.now;
    const owned = await this.store.coordination.own({ now, memberId, functionName, leaseMs: LEASE_MS });
    if (owned === null) throw new Error(`the buffer of ${functionName} is another's`);
    this.fence = owned.fence;
  }

  admission(rows: number, changes: Partial<Admission> = {}): Admission {
    return {
      now: this.now,
      functionName: 'f',
      versionId: this.versionId,
      apiKeyId: 0,
      lane: '',
      priority: 0,
      deadlineAt: null,
      rows,
      bytes: rows * 8,
      schemaKey: '',
      payload: { kind: 'json', text: JSON.stringify([Array.from({ length: rows }, (_, row) => row)]) },
      idempotency: null,
      metadata: {},
      traceparent: null,
      ...changes,
    };
  }

  admitted(rows: number, changes: Partial<Admission> = {}): Promise<Admitted> {
    return this.queue.admit(this.admission(rows, changes));
  }

  async admit(rows: number, changes: Partial<Admission> = {}): Promise<number> {
    return (await this.admitted(rows, changes)).callId;
  }

  offer(idle: number, prefetch = 0, workerId = 'w'): Promise<void> {
    const until = this.now + LEASE_MS;
    return this.queue.offer({ now: this.now, workerId, versionId: this.versionId, idle, prefetch, until });
  }

  seal(...slices: readonly (readonly [callId: number, from: number, count: number])[]) {
    return this.queue.seal({
      now: this.now,
      versionId: this.versionId,
      slices: slices.map(([callId, from, count]) => ({ callId, from, count })),
      reason: 'size',
      fence: this.fence,
    });
  }

  lease(max = 1, workerId = 'w'): Promise<readonly LeasedBatch[]> {
    return this.queue.lease({ now: this.now, workerId, versionId: this.versionId, leaseMs: LEASE_MS, max });
  }

  async leaseOne(): Promise<LeasedBatch> {
    const [batch] = await this.lease();
    if (batch === undefined) throw new Error('no batch was ready');
    return batch;
  }

  /** Seals the slices and leases their batch. */
  async run(
    ...slices: readonly (readonly [callId: number, from: number, count: number])[]
  ): Promise<LeasedBatch> {
    await this.seal(...slices);
    return this.leaseOne();
  }

  settle(
    batch: LeasedBatch,
    outcomes: readonly Outcome[],
    continuations: readonly Continuation[] = [],
    bytes = 64,
  ): Promise<SettleAnswer> {
    const hasOutput = outcomes.some(({ state }) => state === 'ok');
    return this.queue.settle({
      now: this.now,
      batchId: batch.batchId,
      token: batch.token,
      outcomes,
      output: hasOutput ? outputOf(batch, bytes) : null,
      continuations,
      startedAt: this.now,
      handlerMs: 2,
    });
  }

  settleOk(batch: LeasedBatch, bytes = 64): Promise<SettleAnswer> {
    return this.settle(batch, okOutcomes(batch.slices), [], bytes);
  }

  fail(batch: LeasedBatch): Promise<SettleAnswer> {
    return this.settle(
      batch,
      batch.slices.map((slice) => ({ ...slice, state: 'failed', error: BOOM })),
    );
  }

  continuation(slices: readonly Slice[], changes: Partial<Continuation> = {}): Continuation {
    return { slices, attempts: 1, claims: 0, mode: 'retry', notBefore: 0, ...changes };
  }

  expire(heartbeatMs?: number) {
    const spared = heartbeatMs === undefined ? {} : { heartbeatMs };
    return this.queue.expired({ now: this.now, claimsMax: CLAIMS_MAX, limit: 1000, ...spared });
  }

  async call(callId: number) {
    const call = await this.queue.call(callId);
    if (call === undefined || call === 'gone') throw new Error(`call ${callId} is ${call}`);
    return call;
  }

  async result(callId: number, from = 0, bytesMax = 2 ** 30) {
    const page = await this.queue.result({ callId, from, bytesMax });
    if (page === undefined || page === 'gone') throw new Error(`the result of call ${callId} is ${page}`);
    return page;
  }

  /** Collects events; a round trip after a verb makes sure that what it told has come. */
  collect<K extends keyof StoreEvents>(kind: K, callId?: number): StoreEvents[K][] {
    const seen: StoreEvents[K][] = [];
    const query = callId === undefined ? { kind } : { kind, callId };
    this.queue.watch(query, (event) => seen.push(event));
    return seen;
  }

  async settled(): Promise<void> {
    await this.store.counters();
  }

  async free(): Promise<{ idle: number; prefetch: number }> {
    const { free } = await this.seal([Number.MAX_SAFE_INTEGER, 0, 1]);
    return { idle: free.idle, prefetch: free.prefetch };
  }

  async load() {
    const [load] = (await this.store.registry.load()).filter(({ functionName }) => functionName === 'f');
    return load;
  }
}
