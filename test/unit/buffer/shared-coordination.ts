/**
 * What several buffers share, as a model: members and owners with leases, told in the words of the port, on the clock
 * of the test. Each process has its own `memberOf`, which can be cut off from it.
 */
import type { OwnershipStore } from '../../../services/buffer/ownership.ts';
import type { Coordination, Ownership } from '../../../shared/store/ports/coordination.ts';
import type { FunctionLoad } from '../../../shared/store/ports/registry.ts';

type Owner = Ownership & { readonly memberId: string };

export class SharedCoordination {
  readonly functions = new Set<string>();
  readonly owners = new Map<string, Owner>();
  /** What was asked of the store so far: all functions, or to own one. */
  readonly asked: string[] = [];
  readonly #members = new Map<string, number>();
  #fences = 0;

  /** A process's view of the store; while `isCut()` nothing is answered. */
  view(isCut: () => boolean): OwnershipStore {
    const reach = async <T>(work: () => T): Promise<T> => {
      if (isCut()) throw new Error('the connection is cut');
      return work();
    };
    const coordination: Coordination = {
      exclusive: false,
      join: ({ now, memberId, until }) => reach(() => this.#join(now, memberId, until)),
      leave: (memberId) => reach(() => void this.#members.delete(memberId)),
      own: ({ now, memberId, functionName, leaseMs }) =>
        reach(() => this.#own(now, memberId, functionName, now + leaseMs)),
      disown: ({ memberId, functionName }) =>
        reach(() => {
          if (this.owners.get(functionName)?.memberId === memberId) this.owners.delete(functionName);
        }),
    };
    const load = () => {
      this.asked.push('all');
      return reach(() => [...this.functions].map(idle));
    };
    return { coordination, registry: { load } };
  }

  #join(now: number, memberId: string, until: number): readonly string[] {
    this.#members.set(memberId, until);
    for (const [id, end] of this.#members) if (end <= now) this.#members.delete(id);
    return [...this.#members.keys()].sort();
  }

  #own(now: number, memberId: string, functionName: string, until: number): Ownership | null {
    this.asked.push(functionName);
    const held = this.owners.get(functionName);
    if (held !== undefined && held.until > now && held.memberId !== memberId) return null;
    const isOurs = held !== undefined && held.memberId === memberId && held.until > now;
    this.#fences += 1;
    const owner = { memberId, until, fence: isOurs ? held.fence : `fence-${this.#fences}` };
    this.owners.set(functionName, owner);
    return owner;
  }
}

const idle = (functionName: string): FunctionLoad => ({
  functionName,
  waitingRows: 0,
  sealedRows: 0,
  waitingCalls: 0,
  endedRows: { ok: 0, failed: 0, cancelled: 0, expired: 0 },
  oldestAt: null,
  oldestVersionId: null,
  sealedVersions: [],
});
