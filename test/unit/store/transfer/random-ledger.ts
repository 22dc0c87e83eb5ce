/** A store filled at random, and everything that a reader can see of it. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import type { Outcome } from '../../../../shared/domain/call.ts';
import { DOCUMENT_KINDS } from '../../../../shared/store/ports/documents.ts';
import type { Admission, LeasedBatch, ResultPart } from '../../../../shared/store/ports/queue.ts';
import type { Store } from '../../../../shared/store/ports/store.ts';
import { specOf, type Workshop } from '../../../contract/workshop.ts';

export type Step = { readonly verb: string; readonly pick: number; readonly size: number };

const WEIGHTS = { admit: 8, seal: 6, lease: 5, settle: 6, release: 1, cancel: 1, large: 1 };
const VERBS = Object.entries(WEIGHTS).flatMap(([verb, weight]) => Array<string>(weight).fill(verb));
export const steps = fc.array(
  fc.record({ verb: fc.constantFrom(...VERBS), pick: fc.nat(1000), size: fc.nat(7) }),
  { minLength: 15, maxLength: 60, size: 'max' },
);

export const FUNCTIONS = ['f', 'g', 'h'];

type Known = { readonly id: number; readonly admission: Admission; sealed: number };

export class RandomLedger {
  readonly calls: Known[] = [];
  readonly #shop: Workshop;
  readonly #versions = new Map<string, number>();
  readonly #fences = new Map<string, string>();
  readonly #held: LeasedBatch[] = [];
  #admitted = 0;

  constructor(shop: Workshop) {
    this.#shop = shop;
  }

  /** Three functions: one with two versions and a staged one, one with other limits than it was deployed with, and a scaling. */
  async prepare(): Promise<void> {
    const { store, now } = this.#shop;
    await this.#shop.deploy(specOf('g', { callTimeoutMs: 2000 }));
    for (const name of FUNCTIONS) {
      this.#versions.set(name, await this.#shop.deploy(specOf(name)));
      await this.#shop.own(name);
      this.#fences.set(name, this.#shop.fence);
    }
    await store.registry.update({ now, name: 'h', update: { batching: { sizeRows: 3 } } });
    await store.registry.deploy({ now, spec: specOf('g', { callTimeoutMs: 3000 }), isStaged: true });
    const scaling = {
      minReplicas: 0,
      maxReplicas: 3,
      targetRows: null,
      targetWaitMs: 250,
      targetCpuPercent: 70,
    };
    await store.registry.update({
      now,
      name: 'h',
      update: { scaling: { ...scaling, scaleDownMs: 300_000, idleMs: 1000 } },
    });
    await this.#write();
    for (const name of ['first', 'second', 'third'])
      await store.keys.create({ now, name, scopes: ['call'], secretHash: `hash-${name}`, prefix: name });
    await store.keys.revoke(3);
  }

  /** One of the functions, when its calls are made. */
  async pause(): Promise<void> {
    const { store, now } = this.#shop;
    await store.registry.update({ now, name: 'h', update: { paused: true } });
  }

  /** Small and large documents of two kinds, one of them changed, another removed. */
  async #write(): Promise<void> {
    const { documents } = this.#shop.store;
    const put = (
      kind: 'model' | 'model-version',
      key: string,
      value: unknown,
      revision: number | null = null,
    ) => documents.put({ kind, key, revision, value });
    const first = await put('model', 'm', { versions: [1] });
    await put('model', 'm', { versions: [1, 2], name: 'ä€' }, first);
    for (const version of ['m/0000000001', 'm/0000000002', 'm/extra/3'])
      await put('model-version', version, { source: 'x'.repeat(100_000) });
    await put('model-version', 'large/0000000001', { source: 'ä'.repeat(1_700_000) });
    const removed = await put('model', 'z', 'last');
    await documents.remove({ kind: 'model', key: 'z', revision: removed! });
  }

  async take({ verb, pick, size }: Step): Promise<void> {
    const batch = this.#held[pick % Math.max(this.#held.length, 1)];
    const call = this.calls[pick % Math.max(this.calls.length, 1)];
    if (verb === 'admit') await this.admit(pick, size * 3);
    else if (verb === 'large') await this.admit(pick, 5, 100_000 + pick);
    else if (verb === 'seal') await this.#seal(pick, size);
    else if (verb === 'lease') await this.#lease(pick);
    else if (verb === 'settle' && batch) await this.#settle(batch, pick, size);
    else if (verb === 'release' && batch) await this.#release(batch);
    else if (verb === 'cancel' && call)
      await this.#shop.queue.cancel({ now: this.#shop.now, callId: call.id });
  }

  /** May be asked again before it has ended: calls are in the order in which they were asked for. */
  async admit(pick: number, rows: number, payloadBytes = 0): Promise<void> {
    const nth = this.#admitted;
    this.#admitted += 1;
    const functionName = FUNCTIONS[pick % FUNCTIONS.length]!;
    const isArrow = pick % 2 === 0;
    const text = JSON.stringify([
      Array.from({ length: rows }, (_, row) => `${pick}-${row}`),
      'x'.repeat(payloadBytes),
    ]);
    const admission = this.#shop.admission(rows, {
      now: this.#shop.now + nth,
      functionName,
      versionId: this.#versions.get(functionName)!,
      apiKeyId: pick % 4,
      lane: pick % 3 === 0 ? `lane-${pick}` : '',
      priority: pick % 5,
      deadlineAt: pick % 7 === 0 ? this.#shop.now + 10_000_000 : null,
      bytes: Math.max(text.length, rows * 8),
      schemaKey: pick % 11 === 0 ? 'any' : '',
      payload: isArrow ? { kind: 'arrow', bytes: Buffer.from(text) } : { kind: 'json', text },
      idempotency: pick % 2 === 1 ? { key: `key-${nth}`, bodyDigest: `digest-${pick}` } : null,
      metadata: pick % 4 === 0 ? { tenant: `t${pick}`, ü: '✓' } : {},
      traceparent: pick % 6 === 0 ? '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' : null,
    });
    const { callId } = await this.#shop.queue.admit(admission);
    this.calls[nth] = { id: callId, admission, sealed: 0 };
  }

  async #seal(pick: number, size: number): Promise<void> {
    const functionName = FUNCTIONS[pick % FUNCTIONS.length]!;
    const chosen = this.calls
      .filter(({ admission, sealed }) => admission.functionName === functionName && sealed < admission.rows)
      .slice(0, 1 + (pick % 5));
    if (chosen.length === 0) return;
    const slices = chosen.map((call) => {
      const slice = {
        callId: call.id,
        from: call.sealed,
        count: Math.min(1 + size, call.admission.rows - call.sealed),
      };
      call.sealed += slice.count;
      return slice;
    });
    const fence = this.#fences.get(functionName)!;
    const versionId = this.#versions.get(functionName)!;
    await this.#shop.queue.seal({ now: this.#shop.now, versionId, slices, reason: 'age', fence });
  }

  async #lease(pick: number): Promise<void> {
    const versionId = this.#versions.get(FUNCTIONS[pick % FUNCTIONS.length]!)!;
    const query = { now: this.#shop.now, workerId: 'w', versionId, leaseMs: 30_000, max: 2 };
    this.#held.push(...(await this.#shop.queue.lease(query)));
  }

  async #settle(batch: LeasedBatch, pick: number, size: number): Promise<void> {
    const outcomes: Outcome[] = [];
    const again = [];
    let outputRow = 0;
    for (const slice of batch.slices) {
      const kind = (pick + slice.from) % 5;
      if (kind < 3) outcomes.push({ ...slice, state: 'ok', outputRow });
      else if (kind === 3)
        outcomes.push({
          ...slice,
          state: 'failed',
          error: { code: 'handler_error', message: `e${pick}`, kind: 'E' },
        });
      else again.push(slice);
      outputRow += slice.count;
    }
    const mode = pick % 2 === 0 ? 'retry' : 'isolate';
    const continuations = again.map((slice) =>
      this.#shop.continuation([slice], { attempts: 1 + (pick % 3), claims: pick % 2, mode }),
    );
    // Some outputs are larger than what a store keeps beside its records.
    await this.#shop.settle(batch, outcomes, continuations, size === 7 ? 100_000 : 64);
    this.#held.splice(this.#held.indexOf(batch), 1);
  }

  async #release(batch: LeasedBatch): Promise<void> {
    await this.#shop.queue.release({ now: this.#shop.now, batchId: batch.batchId, token: batch.token });
    this.#held.splice(this.#held.indexOf(batch), 1);
  }
}

/** A part with its output's bytes as a digest, which does not name ids. */
const seen = (part: ResultPart): unknown => {
  if (part.state !== 'ok') return part;
  const { output, ...rest } = part;
  return { ...rest, output: createHash('sha256').update(output.bytes).digest('hex') };
};

/** Everything that a reader sees of a call, but ids and whether its rows are just being run. */
export const callSeen = async (store: Store, id: number): Promise<unknown> => {
  const page = await store.queue.result({ callId: id, from: 0, bytesMax: 2 ** 30 });
  if (page === undefined || page === 'gone') return page;
  const { id: _, versionId: __, status, startedAt, queueMs, ...call } = page.call;
  const isOpen = status === 'pending' || status === 'running';
  const times = isOpen && call.counts.ok + call.counts.failed === 0 ? null : { startedAt, queueMs };
  return { ...call, ...times, status: isOpen ? 'open' : status, parts: page.parts.map(seen) };
};

const digestOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** Functions with their versions, documents, and keys, without ids that a store chooses. */
export const registrySeen = async (store: Store): Promise<unknown> => {
  const records = await store.registry.functions();
  const functions = records.map(({ id: _, current, staged, versions, ...record }) => ({
    ...record,
    staged: staged?.digest ?? null,
    current: current.digest,
    versions: versions.map(({ id: __, ...version }) => version),
  }));
  functions.sort((a, b) => (a.name < b.name ? -1 : 1));
  const loads = (await store.registry.load()).map(
    ({ functionName, waitingRows, sealedRows, waitingCalls, oldestAt }) => ({
      functionName,
      waitingRows,
      sealedRows,
      waitingCalls,
      oldestAt,
    }),
  );
  loads.sort((a, b) => (a.functionName < b.functionName ? -1 : 1));
  const key = await store.keys.find('hash-second');
  const kinds = await Promise.all(DOCUMENT_KINDS.map((kind) => store.documents.list({ kind, limit: 1000 })));
  const documents = kinds.map((list) =>
    list.map(({ value, ...rest }) => ({ ...rest, digest: digestOf(value) })),
  );
  return { functions, loads, keys: await store.keys.list(), key, documents };
};
