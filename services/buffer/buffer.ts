/**
 * The buffer: holds a window of waiting rows for each function version and seals a due batch when a worker slot asks.
 *
 *   store ── waiting, ended, functions ─► windows ─┐
 *   store ── slots (idle, prefetch) ───────────────┴─ pump: due and a slot free ─► queue.seal
 *
 * An idle slot takes any due batch; a slot that still runs takes a full one ahead, while a part-full batch goes on
 * filling until the slot is idle (docs/decisions/0002). Seals in flight count against the slots that the store last
 * told of, since its next answer has them subtracted. On a store of many processes there are windows only of the
 * functions that this process owns (ownership.ts).
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { FunctionRecord, FunctionVersion } from '../../shared/domain/function.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { metrics } from '../../shared/runtime/metrics.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { FreeSlots, Unwatch, WaitingCall } from '../../shared/store/ports/queue.ts';
import type { FunctionLoad } from '../../shared/store/ports/registry.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import type { TakenBatch } from './batcher.ts';
import { makeOwnership, type Ownership } from './ownership.ts';
import { type Clocks, Window } from './window.ts';

type Lane = {
  readonly name: string;
  readonly window: Window;
  sizeRows: number | null;
  paused: boolean;
  free: { idle: number; prefetch: number };
  sealing: number;
  /** Its window is to be filled: it need not be asked for again. */
  willFill: boolean;
  /** Its window may hold other rows than wait in the store: it is read from the start, not only on. */
  isStale: boolean;
};

/** A failed seal leaves its rows waiting in the store; they are read again after this pause. */
const RELOAD_PAUSE_MS = 250;
/** Timers fire on whole milliseconds and late; a batch that is due within this is sealed by the timer before. */
const SLACK_MS = 1;
/** Node's longest timer is 2^31 − 1 ms; waking once a minute costs nothing. */
const TIMER_MS_MAX = 60_000;
/** A row that has waited this much longer than all that its window holds is missing there: its notification was lost. */
const MISSED_MS = 5000;
/** Looks between two readings of all owned functions, for the notification of a change that was lost: half a minute. */
const REREAD_LOOKS = 30;

export class Buffer implements Service {
  #store: Store;
  #log: Log;
  #clocks: Clocks;
  #ownership: Ownership;
  #looks = 0;
  #lanes = new Map<number, Lane>();
  /** Slots that were offered for versions which this buffer has not read yet. */
  #slots = new Map<number, FreeSlots>();
  #unwatch: Unwatch[] = [];
  #disarm: (() => void) | null = null;
  /** What is to be read again, by function; null: all of them. */
  readonly #reloads = new Map<string | null, () => void>();
  #state: 'new' | 'running' | 'stopped' = 'new';
  #refreshing: Promise<void> = Promise.resolve();
  #inFlight = new Set<Promise<void>>();

  constructor(store: Store, log: Log, clocks: Clocks) {
    this.#store = store;
    this.#log = log;
    this.#clocks = clocks;
    this.#ownership = makeOwnership({
      store,
      log,
      clocks,
      memberId: `${hostname()}-${process.pid}-${randomUUID()}`,
      onGained: (name) => void this.#refreshSoon(name),
      onLost: (name) => this.#drop(name),
      onLoad: (loads) => this.#audit(loads),
    });
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    const { queue } = this.#store;
    this.#unwatch = [
      queue.watch({ kind: 'waiting' }, (calls) => this.#onWaiting(calls)),
      queue.watch({ kind: 'slots' }, (slots) => this.#onSlots(slots)),
      queue.watch({ kind: 'ended' }, (calls) => this.#onEnded(calls)),
      queue.watch({ kind: 'functions' }, ({ name, hasMoved }) => {
        this.#ownership.changed(name);
        if (hasMoved) for (const lane of this.#lanes.values()) lane.isStale ||= lane.name === name;
        void this.#refreshSoon(name);
      }),
    ];
    await this.#ownership.start();
    await (this.#store.coordination.exclusive ? this.#refreshSoon() : this.#refreshing);
  }

  async stop(): Promise<void> {
    this.#state = 'stopped';
    for (const unwatch of this.#unwatch.splice(0)) unwatch();
    this.#disarm?.();
    this.#disarm = null;
    for (const cancel of this.#reloads.values()) cancel();
    await this.#refreshing;
    await Promise.all(this.#inFlight);
    // Last, since what is sealed must carry a fence that holds.
    await this.#ownership.stop();
  }

  /** Another seals the function's rows from now on. */
  #drop(functionName: string): void {
    for (const [versionId, lane] of this.#lanes) {
      if (lane.name !== functionName) continue;
      lane.paused = true;
      this.#lanes.delete(versionId);
    }
    this.#arm();
  }

  /** Notifications may be lost: finds rows that wait in the store and not here, and functions that have changed. */
  #audit(loads: readonly FunctionLoad[]): void {
    const { wall, monotonic } = this.#clocks;
    for (const { functionName, oldestAt, oldestVersionId } of loads) {
      const lane = oldestVersionId === null ? undefined : this.#lanes.get(oldestVersionId);
      if (oldestAt === null || lane === undefined || lane.sealing > 0 || lane.window.loading) continue;
      const ageMs = monotonic() - (lane.window.oldestAt() ?? monotonic());
      if (wall() - oldestAt <= ageMs + MISSED_MS) continue;
      lane.isStale = true;
      void this.#refreshSoon(functionName);
    }
    this.#looks += 1;
    if (this.#looks % REREAD_LOOKS === 0) void this.#refreshSoon();
  }

  #onWaiting(calls: readonly WaitingCall[]): void {
    const touched = new Set<Lane>();
    for (const call of calls) {
      const lane = this.#lanes.get(call.versionId);
      if (!lane) continue;
      lane.window.append(call);
      touched.add(lane);
    }
    for (const lane of touched) this.#pump(lane);
    this.#arm();
  }

  #onSlots(slots: FreeSlots): void {
    this.#slots.set(slots.versionId, slots);
    const lane = this.#lanes.get(slots.versionId);
    if (!lane) return;
    lane.free = { idle: slots.idle, prefetch: slots.prefetch };
    this.#pump(lane);
    this.#arm();
  }

  #onEnded(calls: readonly number[]): void {
    for (const lane of this.#lanes.values()) {
      for (const callId of calls) lane.window.drop(callId);
      if (lane.window.complete || lane.willFill) continue;
      lane.willFill = true;
      void this.#next(() => this.#fill(lane));
    }
  }

  /** Reads on where a window was cut and has room by now. */
  async #fill(lane: Lane): Promise<void> {
    lane.willFill = false;
    await lane.window.fill();
    this.#pump(lane);
    this.#arm();
  }

  /** Reads all functions or one again, and on in their windows. */
  #refreshSoon(functionName: string | null = null): Promise<void> {
    return this.#next(() => this.#refresh(functionName));
  }

  /** One reading of the registry at a time, so that windows are made once. */
  #next(work: () => Promise<void>): Promise<void> {
    this.#refreshing = this.#refreshing
      .then(() => (this.#state === 'running' ? work() : undefined))
      .catch((error: unknown) => {
        this.#log.error({ err: error }, 'buffer: the functions could not be read; trying again');
        this.#reloadLater(null);
      });
    return this.#refreshing;
  }

  async #refresh(functionName: string | null): Promise<void> {
    const { registry } = this.#store;
    if (functionName !== null && this.#ownership.fenceOf(functionName) === null) return;
    const one = functionName === null ? undefined : await registry.function(functionName);
    const records = functionName === null ? await registry.functions() : one === undefined ? [] : [one];
    const alive = new Set(records.flatMap(({ versions }) => versions.map(({ id }) => id)));
    for (const record of records) await this.#refreshRecord(record);
    for (const [versionId, lane] of this.#lanes) {
      if (functionName !== null && functionName !== lane.name) continue;
      if (alive.has(versionId)) continue;
      lane.paused = true;
      this.#lanes.delete(versionId);
      this.#slots.delete(versionId);
    }
    this.#arm();
  }

  async #refreshRecord(record: FunctionRecord): Promise<void> {
    for (const version of record.versions) {
      // Asked anew for each: a window may take a while to read, and be another's by then.
      if (this.#ownership.fenceOf(record.name) === null) return;
      await this.#refreshVersion(record, version);
    }
  }

  async #refreshVersion(record: FunctionRecord, version: FunctionVersion): Promise<void> {
    let lane = this.#lanes.get(version.id);
    if (!lane) {
      const free = this.#slots.get(version.id);
      lane = {
        name: record.name,
        window: new Window(version, this.#store.queue, this.#clocks),
        sizeRows: version.spec.batching.sizeRows,
        paused: record.paused,
        free: { idle: free?.idle ?? 0, prefetch: free?.prefetch ?? 0 },
        sealing: 0,
        willFill: false,
        isStale: false,
      };
      this.#lanes.set(version.id, lane);
    }
    this.#renew(lane, record, version);
    const isStale = lane.isStale;
    lane.isStale = false;
    // One that could not be read is empty then, and read on next time.
    await (isStale ? lane.window.reload() : lane.window.fill());
    // It may have been dropped, or made again, while it was read.
    if (this.#lanes.get(version.id) === lane) this.#pump(lane);
  }

  #renew(lane: Lane, record: FunctionRecord, version: FunctionVersion): void {
    lane.paused = record.paused;
    lane.sizeRows = version.spec.batching.sizeRows;
    lane.window.update(version.spec.batching, version.id !== record.current.id);
  }

  /** Seals what is due while slots are free. */
  #pump(lane: Lane): void {
    while (this.#state === 'running' && !lane.paused) {
      const fence = this.#ownership.fenceOf(lane.name);
      if (fence === null) return;
      const now = this.#clocks.monotonic() + SLACK_MS;
      const idle = lane.free.idle - lane.sealing;
      const ahead = lane.free.prefetch + Math.min(idle, 0);
      if (idle <= 0 && ahead <= 0) return;
      const batch = lane.window.take(now, idle <= 0);
      if (!batch) return;
      this.#seal(lane, batch, now, fence);
    }
  }

  #seal(lane: Lane, batch: TakenBatch, now: number, fence: string): void {
    lane.sealing += 1;
    const sealing = this.#store.queue
      .seal({
        now: this.#clocks.wall(),
        versionId: lane.window.versionId,
        slices: batch.slices,
        reason: batch.reason,
        fence,
      })
      .then(
        async (sealed) => {
          // What is free now came as an event, which is later than this answer's count where both come together.
          lane.sealing -= 1;
          if (sealed.fenced) {
            this.#ownership.fenced(lane.name, fence);
            return;
          }
          for (const slice of sealed.refused) lane.window.drop(slice.callId);
          this.#measure(lane, batch, now);
          // Refused calls are cancelled or past their deadline. Should one only have been out of step, it is read again
          // after a pause; at once would be a loop for a call whose deadline has passed and is not settled yet.
          if (sealed.refused.length > 0) this.#readAgainLater(lane);
          await lane.window.fill().catch((error: unknown) => {
            this.#log.error({ err: error, function: lane.name }, 'buffer: waiting rows could not be read');
            this.#reloadLater(lane.name);
          });
        },
        async (error: unknown) => {
          lane.sealing -= 1;
          if (this.#state !== 'running') return;
          this.#log.error(
            { err: error, function: lane.name },
            'buffer: a seal failed; its rows are read again',
          );
          this.#readAgainLater(lane);
        },
      )
      .then(() => {
        this.#inFlight.delete(sealing);
        this.#pump(lane);
        this.#arm();
      });
    this.#inFlight.add(sealing);
  }

  #readAgainLater(lane: Lane): void {
    lane.isStale = true;
    this.#reloadLater(lane.name);
  }

  #reloadLater(functionName: string | null): void {
    if (this.#reloads.has(functionName)) return;
    const cancel = this.#clocks.after(RELOAD_PAUSE_MS, () => {
      this.#reloads.delete(functionName);
      void this.#refreshSoon(functionName);
    });
    this.#reloads.set(functionName, cancel);
  }

  #measure(lane: Lane, batch: TakenBatch, now: number): void {
    metrics.batchesSealed.inc({ function: lane.name, reason: batch.reason });
    if (lane.sizeRows) metrics.batchFill.observe({ function: lane.name }, batch.rows / lane.sizeRows);
    metrics.batchWaitMs.observe({ function: lane.name }, Math.max(0, now - batch.oldestAt));
  }

  /** One timer for the earliest age limit of a lane that has an idle slot; full batches need none. */
  #arm(): void {
    this.#disarm?.();
    this.#disarm = null;
    if (this.#state !== 'running') return;
    let next = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes.values()) {
      if (lane.paused || lane.free.idle - lane.sealing <= 0) continue;
      next = Math.min(next, lane.window.nextDeadline() ?? Number.POSITIVE_INFINITY);
    }
    if (next === Number.POSITIVE_INFINITY) return;
    const wait = Math.min(TIMER_MS_MAX, Math.max(0, Math.ceil(next - SLACK_MS - this.#clocks.monotonic())));
    this.#disarm = this.#clocks.after(wait, () => this.#onTimer());
  }

  #onTimer(): void {
    for (const lane of this.#lanes.values()) this.#pump(lane);
    this.#arm();
  }
}
