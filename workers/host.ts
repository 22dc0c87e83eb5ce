/**
 * The worker host: a runner for each function version. The current version of a function has the replicas that its
 * scaling wants; a staged one starts its own beside it; every other version has replicas only while rows of it are
 * unfinished.
 *
 *   current:   wanted ≥ 1 ─ up, as many as wanted ─ wanted 0 ─► asleep ─ rows wait ─► up
 *   staged:    up until it is current, or dropped
 *   on demand: asleep ─ rows wait, or a batch is ready ─► up ─ nothing left ─► asleep
 *
 * A new version's replicas are ready before those of the version it replaces may rest, unless the machine cannot hold
 * both: then the old ones stop first (see version-turns.ts).
 */
import type { FunctionRecord, FunctionVersion } from '../shared/domain/function.ts';
import { HEARTBEATS_A_LEASE } from '../shared/domain/lease-watch.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Service } from '../shared/runtime/service.ts';
import type { Unwatch } from '../shared/store/ports/queue.ts';
import type { Store } from '../shared/store/ports/store.ts';
import { CallIds } from '../shared/wire/call-id.ts';
import { type Backends, NO_BACKEND } from './backends.ts';
import { FunctionScaling } from './function-scaling.ts';
import type { HandlerLog } from './handler-log.ts';
import type { InferenceLog } from './inference-log/inference-log.ts';
import type { MachineRoom } from './machine-room.ts';
import { ReplicaReports } from './replica-reports.ts';
import { ScalingRounds } from './scaling-rounds.ts';
import { sourcedBackend } from './sourced-backend.ts';
import { type Entry, follow, goalOf, isNeeded, isOnDemand, roleIn } from './version-entry.ts';
import { VersionRunner } from './version-runner.ts';
import { clashOf, hasHadTurn, holdersBeside } from './version-turns.ts';

/** How often versions that may rest are looked at. */
const LOOK_MS = 2000;
/** How often the number of replicas is decided anew. */
const ROUND_MS = 1000;
/** On a store of many processes a notification may be lost: what changed is known by then all the same. */
const REREAD_MS = 30_000;

export type HostOptions = {
  readonly store: Store;
  readonly backends: Backends;
  readonly room: MachineRoom;
  readonly handlerLog: HandlerLog;
  readonly inferenceLog: InferenceLog;
  readonly log: Log;
  readonly workerId: string;
  readonly leaseMs: number;
  readonly claimsMax: number;
  readonly graceMs: number;
  /** Refuse functions with options that cannot be honoured, instead of running without. */
  readonly strict: boolean;
};

export class WorkerHost implements Service {
  readonly #options: HostOptions;
  readonly #entries = new Map<number, Entry>();
  /** By function. */
  readonly #scalings = new Map<string, FunctionScaling>();
  /** Versions that are gone from the store, whose replicas are not gone yet. */
  readonly #leaving = new Set<Entry>();
  readonly #callIds: CallIds;
  readonly #reports: ReplicaReports;
  readonly #rounds: ScalingRounds;
  #unwatch: Unwatch[] = [];
  #unwatchWaiting: Unwatch | null = null;
  #timers: NodeJS.Timeout[] = [];
  #state: 'new' | 'running' | 'stopped' = 'new';
  /** Functions that are to be read; null: all of them. */
  #unread = new Set<string | null>();
  #refreshing: Promise<void> = Promise.resolve();

  constructor(options: HostOptions) {
    this.#options = options;
    const { store, log } = options;
    this.#callIds = new CallIds(store.queue.generation);
    this.#reports = new ReplicaReports({ ...options, registry: store.registry });
    this.#rounds = new ScalingRounds({
      registry: store.registry,
      isAlone: store.coordination.exclusive,
      log,
    });
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    const { queue } = this.#options.store;
    this.#unwatch = [
      queue.watch({ kind: 'ready' }, ({ versionId }) => this.#ready(versionId)),
      queue.watch({ kind: 'ended' }, (calls) => this.#ended(calls)),
      queue.watch({ kind: 'functions' }, ({ name }) => this.#refresh(name)),
    ];
    this.#every(this.#options.leaseMs / HEARTBEATS_A_LEASE, () => this.#heartbeat());
    this.#every(LOOK_MS, () => this.#look());
    this.#every(LOOK_MS, () => this.#measure());
    this.#every(ROUND_MS, () => this.#rounds.look(this.#entries.values(), (entry) => this.#align(entry)));
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
    const entries = [...this.#entries.values()];
    const stopping = entries.map(({ runner }) => runner.stop(graceMs, graceMs));
    await Promise.all([...stopping, ...[...this.#leaving].map(({ resting }) => resting)]);
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    await Promise.all(entries.map((entry) => this.#reports.tell(entry, 0)));
    await Promise.all(entries.map(({ followed }) => followed?.end('keep')));
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
    for (const entry of entries) void this.#reports.tell(entry);
    await Promise.all(entries.map(({ runner }) => runner.heartbeat()));
  }

  async #measure(): Promise<void> {
    await Promise.all([...this.#entries.values()].map(({ runner }) => runner.measure()));
    this.#reports.figures(this.#entries.values());
  }

  #ready(versionId: number): void {
    const entry = this.#entries.get(versionId);
    if (!entry) return;
    if (entry.runner.size === 0 || entry.resting !== null) this.#wake(entry);
    entry.runner.wake();
  }

  #ended(calls: readonly number[]): void {
    const ended = new Set(calls);
    for (const { runner } of this.#entries.values()) runner.callsEnded(ended);
  }

  /** Reads a function, or all, and brings runners in line; one reading at a time, which takes all changes until it begins. */
  #refresh(functionName: string | null = null): void {
    this.#unread.add(functionName);
    this.#refreshing = this.#refreshing
      .then(() => (this.#state === 'running' ? this.#readUnread() : undefined))
      .catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'functions could not be read');
        // With the next change.
        this.#unread.add(null);
      });
  }

  async #readUnread(): Promise<void> {
    const names = this.#unread;
    if (names.size === 0) return;
    this.#unread = new Set();
    const { registry } = this.#options.store;
    const isRead = (name: string): boolean => names.has(null) || names.has(name);
    const found = names.has(null)
      ? await registry.functions()
      : await Promise.all([...names].map((name) => registry.function(name!)));
    const records = found.filter((record) => record !== undefined);
    const known = new Set<number>();
    for (const record of records) {
      for (const version of record.versions) known.add(version.id);
      await this.#readFunction(record);
    }
    for (const [id, entry] of this.#entries)
      if (isRead(entry.runner.version.spec.name) && !known.has(id)) this.#remove(entry);
    const alive = new Set(records.map(({ name }) => name));
    for (const name of this.#scalings.keys())
      if (isRead(name) && !alive.has(name)) this.#scalings.delete(name);
    this.#watchArrivals();
  }

  async #readFunction(record: FunctionRecord): Promise<void> {
    const { current, staged } = record;
    const known = this.#scalings.get(record.name);
    const scaling = known ?? new FunctionScaling(this.#options.workerId, record);
    this.#scalings.set(record.name, scaling);
    const isRescaled = scaling.set(record);
    // The current one first, then the staged one: where there is room for one, it is for that one.
    const versions = new Map(
      [current, ...(staged ? [staged] : []), ...record.versions].map((one) => [one.id, one]),
    );
    for (const [id, version] of versions) {
      const isNew = !this.#entries.has(id);
      const entry = this.#entries.get(id) ?? (await this.#open(version, scaling));
      await this.#readVersion(entry, roleIn(record, version), isNew);
    }
    const entry = this.#entries.get(current.id);
    if (entry && isRescaled && known) await this.#align(entry);
  }

  async #readVersion(entry: Entry, role: Entry['role'], isNew: boolean): Promise<void> {
    if (isNew || entry.role !== role) {
      // One that was staged has its replicas, or still waits for room as it did.
      if (entry.role !== 'staged' || role === 'old') entry.takesOver = role !== 'old';
      entry.role = role;
      this.#changed(entry);
    }
    // Arrivals are watched before the look at what waits, so that no row comes between the two.
    if (isOnDemand(entry) && !this.#unwatchWaiting) this.#watchArrivals();
    if (isNeeded(entry)) this.#wake(entry);
    else if (entry.backend.follow && role === 'current') this.#wake(entry);
    else if (isNew && (await this.#hasWork(entry))) this.#wake(entry);
  }

  async #open(version: FunctionVersion, scaling: FunctionScaling): Promise<Entry> {
    const { store, backends, room, handlerLog, inferenceLog, log, workerId, leaseMs, claimsMax, strict } =
      this.#options;
    const found = await backends.of(version);
    const backend = 'backend' in found ? sourcedBackend(found.backend, store.registry) : NO_BACKEND;
    const options = backend.ignored(version);
    const binding = strict ? options.filter(({ isBinding }) => isBinding) : [];
    const unmet = `this server refuses what it cannot honour: ${binding.map(({ text }) => text).join('; ')}`;
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
        inferenceLog,
        callIdText: (id) => this.#callIds.encode(id),
        onChange: () => this.#changed(entry),
      }),
      backend,
      scaling,
      refusal: 'refusal' in found ? found.refusal : binding.length > 0 ? unmet : null,
      ignored: options.map(({ text }) => text),
      role: 'old',
      goal: 0,
      takesOver: false,
      blocked: null,
      servesSince: null,
      idleSince: null,
      resting: null,
      followed: null,
      followFailure: null,
    };
    this.#entries.set(version.id, entry);
    if (entry.ignored.length > 0)
      log.warn({ function: version.spec.name, ignored: entry.ignored }, 'options that are not honoured here');
    // Others count this worker from its report on, and it counts them before it takes its part.
    if (scaling.isShared) {
      await this.#reports.tell(entry);
      await this.#rounds.see(entry);
    }
    return entry;
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.runner.version.id);
    this.#leaving.add(entry);
    // Not awaited: a process that is still being prepared would keep other functions from being read for minutes.
    entry.resting = entry.runner
      .stop(0)
      .then(() => entry.followed?.end('remove'))
      .catch((err: unknown) => this.#options.log.error({ err }, 'a version was not taken away'))
      .then(() => this.#reports.tell(entry, 0))
      .finally(() => {
        this.#leaving.delete(entry);
        this.#rested(entry);
      });
  }

  #wake(entry: Entry): void {
    entry.idleSince = null;
    if (entry.refusal !== null || this.#state !== 'running') return;
    if (entry.role === 'current') entry.scaling.wake(Date.now());
    // A version that just went to rest starts again when its last process has left its device.
    if (entry.resting) void entry.resting.then(() => this.#scale(entry));
    else this.#scale(entry);
  }

  /** Starts what is missing of an entry's goal, or lets go what is above it. */
  #scale(entry: Entry): void {
    if (this.#state !== 'running' || entry.resting !== null) return;
    entry.goal = goalOf(entry);
    if (entry.backend.follow) {
      follow(entry, () => this.#changed(entry));
      return;
    }
    if (entry.runner.size < entry.goal) {
      const holders = this.#holdersBeside(entry);
      const clash = clashOf(entry, holders, this.#options.room);
      if (clash !== null) {
        // One that serves already has more as soon as there is room.
        if (entry.runner.size === 0) this.#block(entry, holders, clash);
        return;
      }
    }
    entry.blocked = null;
    entry.takesOver = false;
    if (entry.runner.replicas.length > 0 || entry.goal > 0) entry.runner.scaleTo(entry.goal);
  }

  /** Brings a version to its goal; to none only when nothing is left that this worker has to do. */
  async #align(entry: Entry): Promise<void> {
    if (entry.resting !== null || entry.refusal !== null || entry.role === 'old') return;
    if (goalOf(entry) > 0 || entry.backend.follow) {
      this.#scale(entry);
      return;
    }
    if (entry.runner.replicas.length === 0) return;
    const isForOthers = entry.role === 'staged' || entry.scaling.total > 0;
    if (!isForOthers && (await this.#hasWork(entry))) entry.scaling.wake(Date.now());
    // Arrivals during the look have woken it.
    if (goalOf(entry) === 0) this.#rest(entry);
  }

  #holdersBeside(entry: Entry): Entry[] {
    return holdersBeside(entry, [...this.#entries.values(), ...this.#leaving]);
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
      if (!isNeeded(entry) && !(await this.#hasWork(entry))) {
        entry.blocked = null;
        this.#changed(entry);
        continue;
      }
      for (const holder of this.#holdersBeside(entry)) {
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
    const load = await registry.loadOf(version.spec.name);
    if (load?.sealedVersions.includes(version.id)) return true;
    const { calls } = await queue.open({ versionId: version.id, after: 0, limit: 1 });
    return calls.length > 0;
  }

  /** Puts old versions to rest that nobody needs. The current one is the scaling's. */
  async #look(): Promise<void> {
    await this.#takeTurns();
    for (const entry of this.#entries.values()) {
      const isUp = entry.runner.replicas.length > 0 || entry.followed !== null;
      if (!isUp || entry.role !== 'old' || this.#state !== 'running') continue;
      if (!this.#successorServes(entry)) continue;
      entry.idleSince ??= Date.now();
      if (await this.#hasWork(entry)) entry.idleSince = null;
      // Arrivals during the look have cleared it.
      if (entry.idleSince === null || Date.now() - entry.idleSince < LOOK_MS / 2) continue;
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
    entry.resting = entry.runner
      .rest()
      .then(() => entry.followed?.end('remove'))
      .catch((err: unknown) => this.#options.log.error({ err }, 'a version was not taken away'))
      .finally(() => {
        entry.resting = null;
        entry.followed = null;
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
    if (!hasYielded || !this.#entries.has(entry.runner.version.id)) return;
    if (isNeeded(entry)) this.#wake(entry);
    else
      this.#wakeForWork(entry).catch((err: unknown) => this.#options.log.error({ err }, 'load was not read'));
  }

  async #wakeForWork(entry: Entry): Promise<void> {
    if (await this.#hasWork(entry)) this.#wake(entry);
  }

  #successorServes(entry: Entry): boolean {
    const { name } = entry.runner.version.spec;
    for (const { runner, role, scaling } of this.#entries.values())
      if (role === 'current' && runner.version.spec.name === name)
        return runner.readyCount >= scaling.floor(runner.version.id);
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
          if (entry.runner.size === 0 || entry.resting !== null) this.#wake(entry);
        }
      });
    } else if (!needed && this.#unwatchWaiting) {
      this.#unwatchWaiting();
      this.#unwatchWaiting = null;
    }
  }

  #changed(entry: Entry): void {
    if (entry.runner.readyCount === 0) entry.servesSince = null;
    else entry.servesSince ??= Date.now();
    this.#reports.changed(entry);
  }
}
