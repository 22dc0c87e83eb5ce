/** The events of one commit, collected while its verbs run and sent behind its replies; and who wants them. */
import { IdMap } from '../../runtime/id-map.ts';
import type { Port } from './channel.ts';
import type { EventMessage, Reply, WaitingMessage } from './messages.ts';
import type { LiveCall, VersionState } from './model.ts';

/** A client at the other end of a port, with what this commit sends it. */
export type ClientPort = {
  readonly port: Port;
  readonly kinds: Set<string>;
  /** Answers that leave before the commit (see committing.ts). */
  early: Reply[];
  replies: Reply[];
  events: EventMessage[];
};

/** What a finished call looked like; `status` is a number of model.ts. */
export type Finished = {
  readonly status: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly expired: number;
  readonly parts: readonly number[];
};

export class Outbox {
  waiting: WaitingMessage = { numbers: [], extras: [] };
  /** Versions whose free slots may have changed. */
  readonly slots = new Set<VersionState>();
  readonly ready = new Set<number>();
  ended: number[] = [];
  readonly functions = new Set<string>();
  /** Watched calls that went on (null) or finished. */
  calls = new Map<LiveCall, Finished | null>();
  readonly watchers = new IdMap<readonly ClientPort[]>();

  addWaiting(call: LiveCall): void {
    this.waiting.numbers.push(
      call.id,
      call.version.id,
      call.sealed,
      call.rows - call.sealed,
      call.bytes,
      call.arrivedAt,
      call.deadlineAt ?? Number.NaN,
    );
    this.waiting.extras.push(call.extra);
  }

  /** A watch ends with its call's end. */
  watch(callId: number, client: ClientPort): void {
    const watchers = this.watchers.get(callId);
    if (watchers === undefined) this.watchers.set(callId, [client]);
    else if (!watchers.includes(client)) this.watchers.set(callId, [...watchers, client]);
  }

  unwatch(callId: number, client: ClientPort): void {
    const left = this.watchers.get(callId)?.filter((one) => one !== client);
    if (left === undefined || left.length === 0) this.watchers.delete(callId);
    else this.watchers.set(callId, left);
  }

  touch(call: LiveCall, finished: Finished | null): void {
    if (this.watchers.has(call.id)) this.calls.set(call, finished);
  }

  /** Forgets what buffers and hosts were told before the commit. */
  clearEarly(): void {
    if (this.waiting.extras.length > 0) this.waiting = { numbers: [], extras: [] };
    this.slots.clear();
    this.ready.clear();
  }

  /** Drops what a commit that failed would have told. */
  clear(): void {
    this.clearEarly();
    if (this.ended.length > 0) this.ended = [];
    this.functions.clear();
    if (this.calls.size > 0) this.calls = new Map();
  }
}
