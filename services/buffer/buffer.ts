/**
 * The buffer: holds a window of waiting rows for each function version and seals a due batch when a worker slot asks.
 *
 *   store ── waiting, ended, functions ─► windows ─┐
 *   store ── slots (idle, prefetch) ───────────────┴─ pump: due and a slot free ─► queue.seal
 *
 * An idle slot takes any due batch; a slot that still runs takes a full one ahead, while a part-full batch goes on
 * filling until the slot is idle (docs/decisions/0002). Seals in flight count against the slots that the store last
 * told of, since its next answer has them subtracted.
 */
import type { FunctionRecord, FunctionVersion } from '../../shared/domain/function.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { metrics } from '../../shared/runtime/metrics.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { FreeSlots, Unwatch, WaitingCall } from '../../shared/store/ports/queue.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import type { TakenBatch } from './batcher.ts';
import { type Clocks, Window } from './window.ts';

type Lane = {
  readonly name: string;
  readonly window: Window;
  sizeRows: number | null;
  paused: boolean;
  free: { idle: number; prefetch: number };
  sealing: number;
};

/** A failed seal leaves its rows waiting in the store; they are read again after this pause. */
const RELOAD_PAUSE_MS = 250;
/** Timers fire on whole milliseconds and late; a batch that is due within this is sealed by the timer before. */
const SLACK_MS = 1;
/** Node's longest timer is 2^31 − 1 ms; waking once a minute costs nothing. */
const TIMER_MS_MAX = 60_000;

export class Buffer implements Service {
  #store: Store;
  #log: Log;
  #clocks: Clocks;
  #lanes = new Map<number, Lane>();
  /** Slots that were offered for versions which this buffer has not read yet. */
  #slots = new Map<number, FreeSlots>();
  #unwatch: Unwatch[] = [];
  #disarm: (() => void) | null = null;
  #cancelReload: (() => void) | null = null;
  #state: 'new' | 'running' | 'stopped' = 'new';
  #refreshing: Promise<void> = Promise.resolve();
  #inFlight = new Set<Promise<void>>();

  constructor(store: Store, log: Log, clocks: Clocks) {
    this.#store = store;
    this.#log = log;
    this.#clocks = clocks;
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    const { queue } = this.#store;
    this.#unwatch = [
      queue.watch({ kind: 'waiting' }, (calls) => this.#onWaiting(calls)),
      queue.watch({ kind: 'slots' }, (slots) => this.#onSlots(slots)),
      queue.watch({ kind: 'ended' }, (calls) => this.#onEnded(calls)),
      queue.watch({ kind: 'functions' }, () => this.#refreshSoon()),
    ];
    await this.#refreshSoon();
  }

  async stop(): Promise<void> {
    this.#state = 'stopped';
    for (const unwatch of this.#unwatch.splice(0)) unwatch();
    this.#disarm?.();
    this.#disarm = null;
    this.#cancelReload?.();
    await this.#refreshing;
    await Promise.all(this.#inFlight);
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
    for (const lane of this.#lanes.values()) for (const callId of calls) lane.window.drop(callId);
  }

  /** Reads the registry again; one at a time, so that windows are made once. */
  #refreshSoon(): Promise<void> {
    this.#refreshing = this.#refreshing
      .then(() => (this.#state === 'running' ? this.#refresh() : undefined))
      .catch((error: unknown) => {
        this.#log.error({ err: error }, 'buffer: the functions could not be read; trying again');
        this.#reloadLater();
      });
    return this.#refreshing;
  }

  async #refresh(): Promise<void> {
    const records = await this.#store.registry.functions();
    const alive = new Set<number>();
    for (const record of records) {
      for (const version of record.versions) {
        alive.add(version.id);
        await this.#refreshVersion(record, version);
      }
    }
    for (const [versionId, lane] of this.#lanes) {
      if (alive.has(versionId)) continue;
      lane.paused = true;
      this.#lanes.delete(versionId);
      this.#slots.delete(versionId);
    }
    this.#arm();
  }

  async #refreshVersion(record: FunctionRecord, version: FunctionVersion): Promise<void> {
    const superseded = version.id !== record.current.id;
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
      };
      this.#lanes.set(version.id, lane);
    }
    lane.paused = record.paused;
    lane.sizeRows = version.spec.batching.sizeRows;
    lane.window.update(version.spec.batching, superseded);
    // Calls may have moved between versions (repin), so the store is read again: functions change rarely.
    await lane.window.reload();
    this.#pump(lane);
  }

  /** Seals what is due while slots are free. */
  #pump(lane: Lane): void {
    while (this.#state === 'running' && !lane.paused) {
      const now = this.#clocks.monotonic() + SLACK_MS;
      const idle = lane.free.idle - lane.sealing;
      const ahead = lane.free.prefetch + Math.min(idle, 0);
      if (idle <= 0 && ahead <= 0) return;
      const batch = lane.window.take(now, idle <= 0);
      if (!batch) return;
      this.#seal(lane, batch, now);
    }
  }

  #seal(lane: Lane, batch: TakenBatch, now: number): void {
    lane.sealing += 1;
    const sealing = this.#store.queue
      .seal({
        now: this.#clocks.wall(),
        versionId: lane.window.versionId,
        slices: batch.slices,
        reason: batch.reason,
        fence: '',
      })
      .then(
        async (sealed) => {
          // What is free now came as an event, which is later than this answer's count where both come together.
          lane.sealing -= 1;
          for (const slice of sealed.refused) lane.window.drop(slice.callId);
          this.#measure(lane, batch, now);
          // Refused calls are cancelled or past their deadline. Should one only have been out of step, it is read again
          // after a pause; at once would be a loop for a call whose deadline has passed and is not settled yet.
          if (sealed.refused.length > 0) this.#reloadLater();
          await lane.window.fill().catch((error: unknown) => {
            this.#log.error({ err: error, function: lane.name }, 'buffer: waiting rows could not be read');
            this.#reloadLater();
          });
        },
        async (error: unknown) => {
          lane.sealing -= 1;
          if (this.#state !== 'running') return;
          this.#log.error(
            { err: error, function: lane.name },
            'buffer: a seal failed; its rows are read again',
          );
          this.#reloadLater();
        },
      )
      .then(() => {
        this.#inFlight.delete(sealing);
        this.#pump(lane);
        this.#arm();
      });
    this.#inFlight.add(sealing);
  }

  /** Reads everything again after a pause; one at a time. */
  #reloadLater(): void {
    this.#cancelReload ??= this.#clocks.after(RELOAD_PAUSE_MS, () => {
      this.#cancelReload = null;
      void this.#refreshSoon();
    });
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
