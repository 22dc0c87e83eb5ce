/** What is asked of the store within one turn of the event loop, and of one place there, goes together. */
import { atTurnEnd } from '../../runtime/turn-end.ts';

type Group<Place, Asked> = { readonly place: Place; readonly asked: Asked[]; share: number };

export class TurnGroups<Place, Asked> {
  readonly #send: (place: Place, asked: readonly Asked[]) => void;
  readonly #shareOf: (asked: Asked) => number;
  #groups = new Map<string, Group<Place, Asked>>();
  readonly #flushSoon = atTurnEnd(() => this.flush());

  /** @param shareOf how much of what may go together one is: those of a group make 1 at most, unless one alone is more */
  constructor(shareOf: (asked: Asked) => number, send: (place: Place, asked: readonly Asked[]) => void) {
    this.#shareOf = shareOf;
    this.#send = send;
  }

  /** @param key names the place */
  add(key: string, place: Place, asked: Asked): void {
    const share = this.#shareOf(asked);
    let group = this.#groups.get(key);
    if (group !== undefined && group.share + share > 1) {
      this.#send(group.place, group.asked);
      group = undefined;
    }
    if (group === undefined) {
      group = { place, asked: [], share: 0 };
      this.#groups.set(key, group);
    }
    group.asked.push(asked);
    group.share += share;
    this.#flushSoon();
  }

  /** Sends what was asked so far, so that what is asked next comes behind it. */
  flush(): void {
    if (this.#groups.size === 0) return;
    const groups = this.#groups;
    this.#groups = new Map();
    for (const { place, asked } of groups.values()) this.#send(place, asked);
  }
}
