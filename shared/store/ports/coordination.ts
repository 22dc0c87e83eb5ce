/**
 * Who buffers which function. A store of one process owns everything for ever; on a store of many processes each
 * function's buffer has one owner at a time, elected by a lease with a fencing token that every seal carries.
 *
 * A client is told (`watch`) of the waiting rows and the worker slots of the functions that it owns, and of no others:
 * `own` answers after the client hears them, so that an owner who then reads `open` misses nothing, and a client that
 * takes a function is told (`slots`) of the slots that its workers have offered already. `expired` and `sweep` look at
 * the functions that it owns as well.
 */
export type Ownership = {
  /** Goes into every seal of the function. Random: counters roll back in a failover. */
  readonly fence: string;
  /** The owner must renew before this time. */
  readonly until: number;
};

export interface Coordination {
  /** One process owns everything here: no elections, no renewals. */
  readonly exclusive: boolean;
  /** Joins the buffer processes, or stays among them until `until`; answers the ids of all that are alive, sorted. */
  join(query: {
    readonly now: number;
    readonly memberId: string;
    readonly until: number;
  }): Promise<readonly string[]>;
  leave(memberId: string): Promise<void>;
  /** Takes or renews the ownership of a function's buffer; null while another member holds it. */
  own(query: {
    readonly now: number;
    readonly memberId: string;
    readonly functionName: string;
    readonly leaseMs: number;
  }): Promise<Ownership | null>;
  /** Gives it up; from then on this client is told nothing of it. Nothing happens when it is another's. */
  disown(query: { readonly memberId: string; readonly functionName: string }): Promise<void>;
}
