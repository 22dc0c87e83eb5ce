/**
 * Which functions' buffers this process owns. On a store of one process: all, for ever, at no cost. On a shared store
 * every buffer process is a member; each looks once in a while at who is there, owns the functions that the
 * assignment gives it, and renews them.
 *
 *   another's ── assigned to us, its lease ended or was handed over ─► own ─► ours: gained, rebuilt from the store
 *       ▲                                                                      │
 *       └── lost: assigned to another (handed over), lease not renewed, a seal was fenced ─┘
 *
 * The lease is held against the monotonic clock from before it was asked for, so that a process which was paused for
 * longer than its lease knows it before it seals again; what slips through is refused by the fence.
 */
import type { Log } from '../../shared/runtime/log.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { Coordination } from '../../shared/store/ports/coordination.ts';
import type { FunctionLoad, Registry } from '../../shared/store/ports/registry.ts';
import { assignedMember } from './assignment.ts';
import type { Clocks } from './window.ts';

/**
 * After a crash the rows of a function wait this long and a look at most; a shorter lease would be lost in a pause of
 * the garbage collector or a failover of the store, and each move reads the waiting rows again.
 */
export const OWNER_LEASE_MS = 4000;
/** Three renewals may fail before a lease is lost. */
const LOOK_MS = 1000;
/** What is assigned to us and still another's was just handed over, or its owner is dead: asked for again soon. */
const RETRY_MS = 200;
/** Functions that are asked for at once. */
const ASKED_MAX = 64;
/** A stop does not wait longer for the store to hear of it: the leases end by themselves. */
const HANDOVER_MS = 2000;

export interface Ownership extends Service {
  /** What every seal of the function carries; null when its buffer is not ours, or not for certain any more. */
  fenceOf(functionName: string): string | null;
  /** A seal was refused: another owns it by now. */
  fenced(functionName: string, fence: string): void;
  /** A function has changed: it is asked for at once if it is a new one. A look would cost as much as there are functions. */
  changed(functionName: string): void;
}

export type OwnershipStore = {
  readonly coordination: Coordination;
  readonly registry: Pick<Registry, 'load'>;
};

export type OwnershipOptions = {
  readonly store: OwnershipStore;
  readonly log: Log;
  readonly clocks: Clocks;
  /** Unique among all processes that ever were. */
  readonly memberId: string;
  readonly onGained: (functionName: string) => void;
  readonly onLost: (functionName: string) => void;
  /** What waits, at each look. */
  readonly onLoad: (loads: readonly FunctionLoad[]) => void;
};

const SOLE: Ownership = {
  start: async () => undefined,
  stop: async () => undefined,
  fenceOf: () => '',
  fenced: () => undefined,
  changed: () => undefined,
};

export const makeOwnership = (options: OwnershipOptions): Ownership =>
  options.store.coordination.exclusive ? SOLE : new ElectedOwnership(options);

/** `validUntil`: monotonic milliseconds. */
type Held = { readonly fence: string; validUntil: number };

class ElectedOwnership implements Ownership {
  readonly #options: OwnershipOptions;
  readonly #held = new Map<string, Held>();
  #state: 'new' | 'running' | 'stopped' = 'new';
  #looking: Promise<void> | null = null;
  #isLookDue = false;
  /** Functions that a look has found, or that were asked for since. */
  #met = new Set<string>();
  /** Functions that are to be asked for. */
  readonly #unmet = new Set<string>();
  #cancelLook: (() => void) | null = null;
  #cancelGuard: (() => void) | null = null;

  constructor(options: OwnershipOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    this.#look();
    await this.#looking;
  }

  async stop(): Promise<void> {
    const first = this.#state === 'running';
    this.#state = 'stopped';
    this.#cancelLook?.();
    this.#cancelGuard?.();
    if (!first) return;
    const late = Promise.withResolvers<void>();
    const cancel = this.#options.clocks.after(HANDOVER_MS, late.resolve);
    await Promise.race([this.#handOver(), late.promise]);
    cancel();
  }

  fenceOf(functionName: string): string | null {
    const held = this.#held.get(functionName);
    return held !== undefined && this.#options.clocks.monotonic() < held.validUntil ? held.fence : null;
  }

  fenced(functionName: string, fence: string): void {
    if (this.#held.get(functionName)?.fence === fence) this.#lose(functionName, 'another owns it');
    this.#look();
  }

  changed(functionName: string): void {
    if (this.#met.has(functionName)) return;
    this.#unmet.add(functionName);
    this.#proceed();
  }

  #look(): void {
    this.#isLookDue = true;
    this.#proceed();
  }

  /** One at a time: a look hands back what it has not found, as it would what was asked for meanwhile. */
  #proceed(): void {
    if (this.#state !== 'running' || this.#looking !== null) return;
    if (!this.#isLookDue && this.#unmet.size === 0) return;
    this.#looking = (this.#isLookDue ? this.#lookAndWait() : this.#meet())
      .catch((error: unknown) =>
        this.#options.log.warn({ err: error }, 'buffer: who owns what could not be read; trying again'),
      )
      .then(() => {
        this.#looking = null;
        this.#proceed();
      });
  }

  async #lookAndWait(): Promise<void> {
    this.#cancelLook?.();
    this.#isLookDue = false;
    this.#unmet.clear();
    let waitMs = LOOK_MS;
    try {
      if (!(await this.#lookOnce())) waitMs = RETRY_MS;
    } finally {
      if (this.#state === 'running')
        this.#cancelLook = this.#options.clocks.after(waitMs, () => this.#look());
    }
  }

  /** What comes to nothing here, as what is told before it can be read, is asked for when it is told again, or at the next look. */
  async #meet(): Promise<void> {
    const names = [...this.#unmet].slice(0, ASKED_MAX);
    for (const name of names) this.#unmet.delete(name);
    const members = await this.#join();
    const { memberId } = this.#options;
    const ask = async (name: string): Promise<void> => {
      if (assignedMember(name, members) !== memberId || (await this.#own(name))) this.#met.add(name);
    };
    await Promise.all(names.map(ask));
  }

  #join(): Promise<readonly string[]> {
    const { store, clocks, memberId } = this.#options;
    const now = clocks.wall();
    return store.coordination.join({ now, memberId, until: now + OWNER_LEASE_MS });
  }

  /** False when something that is assigned to us is still another's. */
  async #lookOnce(): Promise<boolean> {
    const { store, memberId, onLoad } = this.#options;
    const [members, loads] = await Promise.all([this.#join(), store.registry.load()]);
    const names = loads.map(({ functionName }) => functionName);
    this.#met = new Set(names);
    const ours = names.filter((name) => assignedMember(name, members) === memberId);
    const kept = new Set(ours);
    for (const name of [...this.#held.keys()]) if (!kept.has(name)) await this.#handBack(name);
    let isSettled = true;
    for (let at = 0; at < ours.length && this.#state === 'running'; at += ASKED_MAX) {
      const asked = await Promise.all(ours.slice(at, at + ASKED_MAX).map((name) => this.#own(name)));
      isSettled &&= asked.every(Boolean);
    }
    onLoad(loads);
    return isSettled;
  }

  /** Takes or renews; true when it is ours. One function's trouble leaves the others alone. */
  async #own(functionName: string): Promise<boolean> {
    const { store, log, clocks, memberId, onGained, onLost } = this.#options;
    const validUntil = clocks.monotonic() + OWNER_LEASE_MS;
    const query = { now: clocks.wall(), memberId, functionName, leaseMs: OWNER_LEASE_MS };
    const owned = await store.coordination.own(query).catch((error: unknown) => {
      log.warn({ err: error, function: functionName }, 'buffer: an ownership was not renewed; trying again');
      return undefined;
    });
    if (owned === undefined) return false;
    if (owned === null || clocks.monotonic() >= validUntil) {
      this.#lose(functionName, owned === null ? 'another owns it' : 'the answer came too late');
      return false;
    }
    const held = this.#held.get(functionName);
    if (held?.fence === owned.fence) {
      held.validUntil = validUntil;
      return true;
    }
    // A new fence: another may have owned it since, so what is held in memory is worth nothing.
    if (held !== undefined) onLost(functionName);
    this.#held.set(functionName, { fence: owned.fence, validUntil });
    this.#armGuard();
    log.info({ function: functionName }, 'buffer: owned here');
    onGained(functionName);
    return true;
  }

  #lose(functionName: string, why: string): void {
    if (!this.#held.delete(functionName)) return;
    this.#options.log.info({ function: functionName, why }, 'buffer: not owned here any more');
    this.#options.onLost(functionName);
  }

  async #handBack(functionName: string): Promise<void> {
    const { store, log, memberId } = this.#options;
    this.#lose(functionName, 'handed over');
    await store.coordination
      .disown({ memberId, functionName })
      .catch((error: unknown) => log.warn({ err: error, function: functionName }, 'buffer: not handed over'));
  }

  async #handOver(): Promise<void> {
    const { store, log, memberId } = this.#options;
    await this.#looking;
    // Others look at the members first, so the way is free when they ask for the functions.
    await store.coordination
      .leave(memberId)
      .catch((error: unknown) => log.warn({ err: error }, 'buffer: its leaving was not told'));
    const names = [...this.#held.keys()];
    for (let at = 0; at < names.length; at += ASKED_MAX)
      await Promise.all(names.slice(at, at + ASKED_MAX).map((name) => this.#handBack(name)));
  }

  /** Drops what was not renewed in time, also while the store does not answer. */
  #armGuard(): void {
    if (this.#cancelGuard !== null || this.#held.size === 0 || this.#state !== 'running') return;
    const { clocks } = this.#options;
    const next = Math.min(...[...this.#held.values()].map(({ validUntil }) => validUntil));
    this.#cancelGuard = clocks.after(Math.max(0, Math.ceil(next - clocks.monotonic())), () => {
      this.#cancelGuard = null;
      for (const [name, { validUntil }] of [...this.#held])
        if (clocks.monotonic() >= validUntil) this.#lose(name, 'its lease ended');
      this.#armGuard();
    });
  }
}
