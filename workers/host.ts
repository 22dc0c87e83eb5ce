/**
 * The worker host: a runner for each function version. The current version of a function keeps its minimum of replicas;
 * every other version, and a function whose minimum is 0, has replicas only while rows of it are unfinished.
 *
 *   current:   floor ≥ 1 ─ always up
 *   on demand: asleep ─ rows wait, or a batch is ready ─► up ─ nothing left ─► asleep
 *
 * A new version's replicas are ready before those of the version it replaces may rest, unless the machine cannot hold
 * both: then the old ones stop first (see version-turns.ts).
 */
import type { FunctionRecord, FunctionVersion, ReplicaReport } from '../shared/domain/function.ts';
import type { Log } from '../shared/runtime/log.ts';
import { metrics } from '../shared/runtime/metrics.ts';
import type { Service } from '../shared/runtime/service.ts';
import type { Unwatch } from '../shared/store/ports/queue.ts';
import type { Store } from '../shared/store/ports/store.ts';
import { CallIds } from '../shared/wire/call-id.ts';
import { type Backends, NO_BACKEND } from './backends.ts';
import type { HandlerLog } from './handler-log.ts';
import type { MachineRoom } from './machine-room.ts';
import { VersionRunner } from './version-runner.ts';
import { clashOf, hasHadTurn, holdersBeside, type TurnTaker, wantedReplicas } from './version-turns.ts';

/** How often versions that may rest are looked at, and how long a function of minimum 0 stays up with nothing to do. */
const LOOK_MS = 2000;
const IDLE_MS = 60_000;
/** On a store of many processes a notification may be lost: what changed is known by then all the same. */
const REREAD_MS = 30_000;

export type HostOptions = {
  readonly store: Store;
  readonly backends: Backends;
  readonly room: MachineRoom;
  readonly handlerLog: HandlerLog;
  readonly log: Log;
  readonly workerId: string;
  readonly leaseMs: number;
  readonly claimsMax: number;
  readonly graceMs: number;
  /** Refuse functions with options that cannot be honoured, instead of running without. */
  readonly strict: boolean;
};

type Entry = TurnTaker & {
  readonly refusal: string | null;
  ignored: readonly string[];
  /** Since when nothing of an on-demand version was seen; null while it has work or rests. */
  idleSince: number | null;
  /** What was reported last, as text. */
  reported: string;
};

export class WorkerHost implements Service {
  readonly #options: HostOptions;
  readonly #entries = new Map<number, Entry>();
  readonly #callIds: CallIds;
  #unwatch: Unwatch[] = [];
  #unwatchWaiting: Unwatch | null = null;
  #timers: NodeJS.Timeout[] = [];
  #state: 'new' | 'running' | 'stopped' = 'new';
  #refreshing: Promise<void> = Promise.resolve();
  #reports = new Set<Entry>();
  /** Runners of removed functions whose processes are not gone yet. */
  readonly #leaving = new Set<Promise<void>>();

  constructor(options: HostOptions) {
    this.#options = options;
    this.#callIds = new CallIds(options.store.queue.generation);
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    const { queue } = this.#options.store;
    this.#unwatch = [
      queue.watch({ kind: 'ready' }, ({ versionId }) => this.#ready(versionId)),
      queue.watch({ kind: 'ended' }, (calls) => this.#ended(calls)),
      queue.watch({ kind: 'functions' }, () => this.#refresh()),
    ];
    this.#every(this.#options.leaseMs / 3, () => this.#heartbeat());
    this.#every(LOOK_MS, () => this.#look());
    if (!this.#options.store.coordination.exclusive) {
      this.#every(LOOK_MS, () => this.#lookForRows());
      this.#every(REREAD_MS, async () => this.#refresh());
    }
    this.#refresh();
    await this.#refreshing;
  }

  async stop(graceMs = this.#options.graceMs): Promise<void> {
    const first = this.#state === 'running';
    this.#state = 'stopped';
    for (const unwatch of this.#unwatch.splice(0)) unwatch();
    this.#unwatchWaiting?.();
    this.#unwatchWaiting = null;
    if (!first) return;
    const backendsStopped = this.#options.backends.stop();
    await this.#refreshing;
    // Leases are extended until the last batch is settled.
    const stopping = [...this.#entries.values()].map(({ runner }) => runner.stop(graceMs, graceMs));
    await Promise.all([...stopping, ...this.#leaving]);
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    await Promise.all([...this.#entries.values()].map((entry) => this.#tell(entry, 0)));
    await backendsStopped;
  }

  #every(ms: number, work: () => Promise<void>): void {
    let busy = false;
    const timer = setInterval(async () => {
      if (busy) return;
      busy = true;
      await work().catch((error: unknown) =>
        this.#options.log.error({ err: error }, 'worker host: trying again'),
      );
      busy = false;
    }, ms);
    this.#timers.push(timer);
  }

  async #heartbeat(): Promise<void> {
    const entries = [...this.#entries.values()];
    for (const entry of entries) void this.#tell(entry);
    await Promise.all(entries.map(({ runner }) => runner.heartbeat()));
  }

  #ready(versionId: number): void {
    const entry = this.#entries.get(versionId);
    if (!entry) return;
    this.#wake(entry);
    entry.runner.wake();
  }

  #ended(calls: readonly number[]): void {
    const ended = new Set(calls);
    for (const { runner } of this.#entries.values()) runner.callsEnded(ended);
  }

  /** Reads the functions and brings runners in line; one reading at a time, and a change meanwhile reads again. */
  #refresh(): void {
    this.#refreshing = this.#refreshing
      .then(() => (this.#state === 'running' ? this.#readFunctions() : undefined))
      .catch((error: unknown) => this.#options.log.error({ err: error }, 'functions could not be read'));
  }

  async #readFunctions(): Promise<void> {
    const records = await this.#options.store.registry.functions();
    const known = new Set<number>();
    for (const record of records) {
      for (const version of record.versions) known.add(version.id);
      await this.#readFunction(record);
    }
    for (const [id, entry] of this.#entries) {
      if (known.has(id)) continue;
      this.#entries.delete(id);
      // Not awaited: a process that is still being prepared would keep other functions from being read for minutes.
      const leaving = entry.runner.stop(0).finally(() => this.#leaving.delete(leaving));
      this.#leaving.add(leaving);
    }
    this.#watchArrivals();
  }

  async #readFunction(record: FunctionRecord): Promise<void> {
    const isOld = (version: FunctionVersion): number => (version.id === record.current.id ? 0 : 1);
    // The current one first: where there is room for one, it is for that one.
    for (const version of record.versions.toSorted((a, b) => isOld(a) - isOld(b))) {
      const isNew = !this.#entries.has(version.id);
      const entry = this.#entries.get(version.id) ?? (await this.#open(version));
      const wasCurrent = entry.isCurrent;
      entry.isCurrent = version.id === record.current.id;
      if (entry.isCurrent !== wasCurrent) entry.takesOver = entry.isCurrent;
      // Arrivals are watched before the look at what waits, so that no row comes between the two.
      this.#watchArrivals();
      if (entry.isCurrent && version.spec.replicas.min > 0) this.#wake(entry);
      else if (isNew && (await this.#hasWork(entry))) this.#wake(entry);
    }
  }

  async #open(version: FunctionVersion): Promise<Entry> {
    const { store, backends, room, handlerLog, log, workerId, leaseMs, claimsMax, strict } = this.#options;
    const found = await backends.of(version);
    const backend = 'backend' in found ? found.backend : NO_BACKEND;
    const options = backend.ignored(version);
    const binding = strict ? options.filter(({ isBinding }) => isBinding) : [];
    const entry: Entry = {
      runner: new VersionRunner({
        store,
        version,
        workerId,
        leaseMs,
        claimsMax,
        log: log.child({ function: version.spec.name, version: version.digest }),
        backend,
        // Replicas that another machine's scheduler places share nothing of this one.
        room: backend.follow ? null : room,
        handlerLog,
        callIdText: (id) => this.#callIds.encode(id),
        onChange: () => this.#changed(entry),
      }),
      refusal:
        'refusal' in found
          ? found.refusal
          : binding.length > 0
            ? `this server refuses what it cannot honour: ${binding.map(({ text }) => text).join('; ')}`
            : null,
      ignored: options.map(({ text }) => text),
      isCurrent: false,
      takesOver: false,
      blocked: null,
      servesSince: null,
      reported: '',
      idleSince: null,
      resting: null,
    };
    this.#entries.set(version.id, entry);
    if (entry.ignored.length > 0)
      log.warn({ function: version.spec.name, ignored: entry.ignored }, 'options that are not honoured here');
    this.#changed(entry);
    return entry;
  }

  #wake(entry: Entry): void {
    entry.idleSince = null;
    if (entry.refusal !== null || this.#state !== 'running') return;
    // A version that just went to rest starts again when its last process has left its device.
    if (entry.resting) void entry.resting.then(() => this.#scale(entry));
    else this.#scale(entry);
  }

  #scale(entry: Entry): void {
    if (this.#state !== 'running') return;
    const wanted = wantedReplicas(entry);
    if (entry.runner.replicas.length < wanted) {
      const holders = holdersBeside(entry, this.#entries.values());
      const clash = clashOf(entry, holders, this.#options.room);
      if (clash !== null) {
        this.#block(entry, holders, clash);
        return;
      }
    }
    entry.blocked = null;
    entry.takesOver = false;
    entry.runner.scaleTo(wanted);
  }

  /** Keeps a version waiting for those that hold what it needs. */
  #block(entry: Entry, holders: readonly Entry[], clash: string): void {
    const { spec, digest } = entry.runner.version;
    if (entry.blocked === null) {
      const held = holders.map(({ runner }) => runner.version.digest).join(', ');
      const text = `waits until version ${held} has finished its running batches and stopped (${clash})`;
      this.#options.log.warn({ function: spec.name, version: digest }, text);
      entry.blocked = text;
      const gap = `a start beside its old version, which stops first (${clash})`;
      if (entry.takesOver && !entry.ignored.includes(gap)) entry.ignored = [...entry.ignored, gap];
      this.#changed(entry);
    }
    if (entry.takesOver) for (const holder of holders) this.#rest(holder);
  }

  /** Looks after versions that wait for room: their holders yield when they have had their turn. */
  async #takeTurns(): Promise<void> {
    for (const entry of this.#entries.values()) {
      if (entry.blocked === null) continue;
      const isNeeded = entry.isCurrent && entry.runner.version.spec.replicas.min > 0;
      if (!isNeeded && !(await this.#hasWork(entry))) {
        entry.blocked = null;
        this.#changed(entry);
        continue;
      }
      for (const holder of holdersBeside(entry, this.#entries.values())) {
        const hasWork = await this.#hasWork(holder);
        if (hasHadTurn(holder, { hasWork, now: Date.now() })) this.#rest(holder);
      }
      this.#scale(entry);
    }
  }

  async #hasWork({ runner }: Entry): Promise<boolean> {
    const { queue, registry } = this.#options.store;
    const { version } = runner;
    if (runner.busy) return true;
    const load = (await registry.load()).find(({ functionName }) => functionName === version.spec.name);
    if (load?.sealedVersions?.includes(version.id) ?? (load?.sealedRows ?? 0) > 0) return true;
    const { calls } = await queue.open({ versionId: version.id, after: 0, limit: 1 });
    return calls.length > 0;
  }

  /** Puts versions to rest that nobody needs: old ones when the new one serves, functions of minimum 0 after a while. */
  async #look(): Promise<void> {
    await this.#takeTurns();
    for (const entry of this.#entries.values()) {
      if (entry.runner.replicas.length === 0 || this.#state !== 'running') continue;
      if (entry.isCurrent && entry.runner.version.spec.replicas.min > 0) continue;
      if (!entry.isCurrent && !this.#successorServes(entry)) continue;
      entry.idleSince ??= Date.now();
      if (await this.#hasWork(entry)) entry.idleSince = null;
      const waitMs = entry.isCurrent ? IDLE_MS : LOOK_MS / 2;
      // Arrivals during the look have cleared it.
      if (entry.idleSince === null || Date.now() - entry.idleSince < waitMs) continue;
      this.#rest(entry);
    }
  }

  /** On a store of many processes waiting rows are told to the owners of buffers alone. */
  async #lookForRows(): Promise<void> {
    const asleep = [...this.#entries.values()].filter(
      (entry) => isOnDemand(entry) && entry.runner.replicas.length === 0 && entry.blocked === null,
    );
    if (asleep.length === 0) return;
    const loads = await this.#options.store.registry.load();
    const withRows = new Set(
      loads.filter((load) => load.waitingRows + load.sealedRows > 0).map(({ functionName }) => functionName),
    );
    for (const entry of asleep)
      if (withRows.has(entry.runner.version.spec.name) && (await this.#hasWork(entry))) this.#wake(entry);
  }

  #rest(entry: Entry): void {
    if (entry.resting !== null || this.#state !== 'running') return;
    const { spec, digest } = entry.runner.version;
    entry.idleSince = null;
    this.#options.log.info({ function: spec.name, version: digest }, 'replicas rest');
    entry.resting = entry.runner.rest().finally(() => {
      entry.resting = null;
      this.#rested(entry);
    });
  }

  /** Others that waited for its room start; rows of its own that are left, or its minimum, make it wait in turn. */
  #rested(entry: Entry): void {
    let hasYielded = false;
    for (const other of this.#entries.values()) {
      if (other.blocked === null) continue;
      this.#scale(other);
      hasYielded ||= other.runner.version.spec.name === entry.runner.version.spec.name;
    }
    if (!hasYielded) return;
    if (entry.isCurrent && entry.runner.version.spec.replicas.min > 0) this.#wake(entry);
    else
      this.#wakeForWork(entry).catch((err: unknown) => this.#options.log.error({ err }, 'load was not read'));
  }

  async #wakeForWork(entry: Entry): Promise<void> {
    if (await this.#hasWork(entry)) this.#wake(entry);
  }

  #successorServes(entry: Entry): boolean {
    const { name } = entry.runner.version.spec;
    for (const other of this.#entries.values()) {
      const { spec } = other.runner.version;
      if (other.isCurrent && spec.name === name)
        return spec.replicas.min === 0 || other.runner.readyCount >= spec.replicas.min;
    }
    return true;
  }

  /** Arrivals are watched only while a version runs on demand: at full speed they are many. */
  #watchArrivals(): void {
    const needed = this.#state === 'running' && [...this.#entries.values()].some(isOnDemand);
    if (needed && !this.#unwatchWaiting) {
      this.#unwatchWaiting = this.#options.store.queue.watch({ kind: 'waiting' }, (calls) => {
        for (const { versionId } of calls) {
          const entry = this.#entries.get(versionId);
          if (!entry) continue;
          entry.idleSince = null;
          if (entry.runner.replicas.length === 0 || entry.resting !== null) this.#wake(entry);
        }
      });
    } else if (!needed && this.#unwatchWaiting) {
      this.#unwatchWaiting();
      this.#unwatchWaiting = null;
    }
  }

  /** Reports once for all changes of one turn. */
  #changed(entry: Entry): void {
    if (entry.runner.readyCount === 0) entry.servesSince = null;
    else entry.servesSince ??= Date.now();
    if (this.#reports.size === 0) queueMicrotask(() => this.#report());
    this.#reports.add(entry);
  }

  #report(): void {
    const entries = [...this.#reports];
    this.#reports.clear();
    for (const entry of entries) {
      const report = reportOf(entry);
      // Every batch changes a runner; most leave its replicas as they were.
      const text = JSON.stringify([entry.isCurrent, report]);
      if (text === entry.reported) continue;
      entry.reported = text;
      void this.#tell(entry);
      if (!entry.isCurrent) continue;
      const { name } = entry.runner.version.spec;
      for (const state of ['ready', 'starting', 'failed'] as const)
        metrics.replicas.labels(name, state).set(report[state]);
    }
  }

  /** Tells the store, for as long as a lease: what a dead worker said is over then. */
  #tell(entry: Entry, leaseMs = this.#options.leaseMs): Promise<void> {
    const { store, workerId, log } = this.#options;
    const now = Date.now();
    return store.registry
      .report({ now, report: { workerId, ...reportOf(entry), until: now + leaseMs } })
      .catch((error: unknown) => log.warn({ err: error }, 'replicas were not reported'));
  }
}

const isOnDemand = ({ runner, isCurrent, refusal }: Entry): boolean =>
  refusal === null && (!isCurrent || runner.version.spec.replicas.min === 0);

const reportOf = (entry: Entry): Omit<ReplicaReport, 'workerId' | 'until'> => {
  const { runner, refusal, ignored, blocked } = entry;
  const count = (wanted: string): number => runner.replicas.filter(({ state }) => state === wanted).length;
  const failed = runner.replicas.find(({ reason }) => reason !== null);
  return {
    versionId: runner.version.id,
    ready: count('ready'),
    starting: blocked === null ? count('starting') : wantedReplicas(entry),
    failed: count('failed'),
    reason: refusal ?? blocked ?? failed?.reason ?? null,
    ignored,
  };
};
