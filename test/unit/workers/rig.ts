/** A whole server but for HTTP: the embedded store, buffer, reaper and workers, in this process, on a directory of its own. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { Buffer as RowBuffer } from '../../../services/buffer/buffer.ts';
import { Reaper } from '../../../services/reaper/reaper.ts';
import { jsonToPayload, resultJson } from '../../../shared/arrow/index.ts';
import type { RowError } from '../../../shared/domain/call.ts';
import type {
  FunctionRecord,
  FunctionSpec,
  FunctionVersion,
  ReplicaReport,
} from '../../../shared/domain/function.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { CallEvent, LeasedBatch, QueueStore } from '../../../shared/store/ports/queue.ts';
import type { Registry } from '../../../shared/store/ports/registry.ts';
import type { StoreServer } from '../../../shared/store/ports/server.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { makeWorkers, type WorkersOptions } from '../../../workers/main.ts';
import { PLAIN_SPEC } from '../../support/function-spec.ts';

export type SpecChanges = Partial<Omit<FunctionSpec, 'source'>>;

/** A handler inherits nothing; without the cache each would load the type stripper and strip our runtime anew, most of its start. */
const { NODE_COMPILE_CACHE } = process.env;
const NODE_ENVIRONMENT: FunctionSpec['environment'] = {
  ...PLAIN_SPEC.environment,
  env: NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE },
};

/** A Node function of one utf8 column `text`; `body` is the module's text, which exports `run`. */
export const nodeSpec = (body: string, changes: SpecChanges = {}): FunctionSpec => ({
  ...PLAIN_SPEC,
  runtime: 'node',
  handler: { file: 'f.mjs', attribute: 'run' },
  inputs: [{ name: 'text', type: 'utf8', nullable: false }],
  output: { type: 'utf8', nullable: true },
  batching: { sizeRows: 8, durationMs: 5, bytesMax: 2 ** 26 },
  environment: NODE_ENVIRONMENT,
  ...changes,
  source: [{ path: changes.handler?.file ?? 'f.mjs', content: Buffer.from(body).toString('base64') }],
});

export type DeployOptions = Partial<Pick<Parameters<Registry['deploy']>[0], 'isStaged' | 'scaling'>>;

export type Finished = {
  readonly status: string;
  readonly values: readonly unknown[];
  /** Errors by row. */
  readonly errors: ReadonlyMap<number, RowError>;
};

const CLOCKS = {
  wall: () => Date.now(),
  preciseWall: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms: number, work: () => void) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

export type RigOptions = Partial<
  Pick<
    WorkersOptions,
    'strict' | 'log' | 'pythonDefault' | 'environmentsDirectory' | 'machine' | 'artifacts' | 'backends'
  >
> & {
  readonly leaseMs?: number;
  readonly claimsMax?: number;
  readonly graceMs?: number;
  readonly durability?: 'fsync' | 'memory';
  /** What the workers get instead of the store's queue: the real one with a fault in one verb. */
  readonly faulty?: (queue: QueueStore) => Partial<QueueStore>;
  /** The same for the store's registry. */
  readonly registry?: (registry: Registry) => Partial<Registry>;
  /** Leave the workers to the test. */
  readonly asleep?: boolean;
};

/** A part of the store with some of its verbs replaced. */
export const withVerbs = <T extends object>(whole: T, verbs: Partial<T>): T =>
  new Proxy(whole, {
    get: (target, name) => {
      const verb = Reflect.get(name in verbs ? verbs : target, name);
      return typeof verb === 'function' ? verb.bind(target) : verb;
    },
  });

const connectFor = (server: StoreServer, { faulty, registry }: RigOptions, onReport: () => void): Store => {
  const store = server.connect();
  const report: Registry['report'] = async (query) => {
    await store.registry.report(query);
    onReport();
  };
  return withVerbs(store, {
    queue: faulty ? withVerbs(store.queue, faulty(store.queue)) : store.queue,
    registry: withVerbs(store.registry, { report, ...registry?.(store.registry) }),
  });
};

/**
 * A named pipe that holds a handler: reading it waits until the test opens the gate, and `open` resolves when a handler
 * has come to it.
 */
export class Gate {
  readonly path: string;

  constructor(rig: Rig, name: string) {
    this.path = path.join(rig.directory, name);
    execFileSync('mkfifo', [this.path]);
  }

  open(): Promise<void> {
    return writeFile(this.path, 'x');
  }
}

/** Waits at each row that is the path of a gate, once; echoes its rows. */
export const GATED = `import { readFile } from 'node:fs/promises';
const passed = new Set();
export const run = async ({ text }, { attempt }) => {
  for (const t of text) {
    if (!t.startsWith('/') || passed.has(t)) continue;
    passed.add(t);
    await readFile(t);
  }
  return text.map((t) => t + ' in attempt ' + attempt + ' of ' + process.pid);
};`;

const storeOptions = (directory: string, durability: 'fsync' | 'memory') => ({
  directory,
  durability,
  limitBytes: 2 ** 34,
  reserveBytes: 0,
  queueRowsMax: 10_000_000,
  queueBytesMax: 2 ** 34,
  retentionMs: 3_600_000,
  acknowledgedRetentionMs: 1000,
});

export class Rig {
  readonly store: Store;
  readonly workers: ReturnType<typeof makeWorkers>;
  readonly directory: string;

  /** Called when the workers have told something. */
  readonly #reported: Set<() => void>;

  private constructor(
    store: Store,
    workers: ReturnType<typeof makeWorkers>,
    directory: string,
    reported: Set<() => void>,
  ) {
    this.store = store;
    this.workers = workers;
    this.directory = directory;
    this.#reported = reported;
  }

  /** Stops with the test. */
  static async open(options: RigOptions = {}): Promise<Rig> {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-rig-'));
    const server = await openEmbeddedStore(storeOptions(directory, options.durability ?? 'memory'));
    const log = options.log ?? silentLog();
    const store = server.connect();
    const claimsMax = options.claimsMax ?? 5;
    const buffer = new RowBuffer(store, log, CLOCKS);
    const leaseMs = options.leaseMs ?? 30_000;
    const reaper = new Reaper({ store, log, claimsMax, leaseMs, wall: CLOCKS.wall });
    const reported = new Set<() => void>();
    const onReport = (): void => {
      for (const look of reported) look();
    };
    const workers = makeWorkers({
      server: { connect: () => connectFor(server, options, onReport) },
      settings: { lease: leaseMs, claimsMax, grace: options.graceMs ?? 10_000 },
      log,
      strict: options.strict ?? false,
      pythonDefault: options.pythonDefault ?? null,
      ...(options.machine && { machine: options.machine }),
      ...(options.artifacts && { artifacts: options.artifacts }),
      ...(options.backends && { backends: options.backends }),
      ...(options.environmentsDirectory && { environmentsDirectory: options.environmentsDirectory }),
    });
    onTestFinished(async () => {
      await workers.stop();
      await reaper.stop();
      await buffer.stop();
      await store.close();
      await server.close();
      await rm(directory, { recursive: true, force: true });
    });
    await buffer.start();
    await reaper.start();
    if (!options.asleep) await workers.start();
    return new Rig(store, workers, directory, reported);
  }

  async deploy(spec: FunctionSpec, options: DeployOptions = {}): Promise<FunctionRecord> {
    return (await this.store.registry.deploy({ now: Date.now(), spec, ...options })).record;
  }

  /** Submits one call; the answer is its number. */
  async submit(record: FunctionRecord, texts: readonly string[]): Promise<number> {
    const { id, spec } = record.current;
    const { payload, rows, bytes, schemaKey } = jsonToPayload({ columns: { text: texts } }, spec.inputs);
    const { callId } = await this.store.queue.admit({
      now: Date.now(),
      functionName: spec.name,
      versionId: id,
      apiKeyId: 0,
      lane: '',
      priority: 0,
      deadlineAt: null,
      rows,
      bytes,
      schemaKey,
      payload,
      idempotency: null,
      metadata: { from: 'rig' },
      traceparent: null,
    });
    return callId;
  }

  /** Resolves when an event of the call satisfies the wish. */
  async until(callId: number, wish: (status: string) => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const check = (event: Pick<CallEvent, 'status'>): void => {
      if (wish(event.status)) resolve();
    };
    const unwatch = this.store.queue.watch({ kind: 'call', callId }, check);
    const call = await this.store.queue.call(callId);
    if (call && call !== 'gone') check(call);
    await promise;
    unwatch();
  }

  async finished(callId: number): Promise<Finished> {
    await this.until(callId, (status) => status !== 'pending' && status !== 'running');
    const page = await this.store.queue.result({ callId, from: 0, bytesMax: 2 ** 30 });
    if (!page || page === 'gone') throw new Error(`call ${callId} has no result`);
    const record = await this.store.registry.function(page.call.functionName);
    const { values, errors } = resultJson(page.parts, record!.current.spec.output);
    const byRow = new Map<number, RowError>();
    for (const { from, count, ...error } of errors)
      for (let row = from; row < from + count; row += 1) byRow.set(row, error);
    return { status: page.call.status, values: JSON.parse(`[${values}]`), errors: byRow };
  }

  async run(record: FunctionRecord, texts: readonly string[]): Promise<Finished> {
    return this.finished(await this.submit(record, texts));
  }

  /** The report of the function's current version, or of another one, once it satisfies the wish. */
  async report(
    record: FunctionRecord,
    wish: (report: ReplicaReport) => boolean,
    { id }: Pick<FunctionVersion, 'id'> = record.current,
  ): Promise<ReplicaReport> {
    for (;;) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#reported.add(resolve);
      const reports = await this.store.registry.reports({ now: Date.now(), name: record.name });
      const found = reports.find((report) => report.versionId === id && wish(report));
      if (!found) await promise;
      this.#reported.delete(resolve);
      if (found) return found;
    }
  }
}

/** A rig whose leases are seen: `leased(n)` resolves with the nth batch that the workers got. */
export const watchedRig = async (options: RigOptions = {}) => {
  const seen: LeasedBatch[] = [];
  const waiting: (() => void)[] = [];
  const faulty = (queue: QueueStore): Partial<QueueStore> => ({
    ...options.faulty?.(queue),
    lease: async (request) => {
      const batches = await queue.lease(request);
      seen.push(...batches);
      for (const check of waiting) check();
      return batches;
    },
  });
  const rig = await Rig.open({ ...options, faulty });
  const leased = (nth: number): Promise<LeasedBatch> =>
    new Promise((resolve) => {
      const check = (): void => {
        const batch = seen[nth - 1];
        if (batch) resolve(batch);
      };
      waiting.push(check);
      check();
    });
  return { rig, leased };
};
