/** Counts what is asked of a store, so that a simulation knows when nobody is waiting for anything. */
import type { Store } from '../../shared/store/ports/store.ts';

export class VerbCount {
  /** The store, with every verb counted. */
  readonly store: Store;
  asked = 0;
  open = 0;

  constructor(store: Store) {
    this.store = new Proxy(store, {
      get: (target, name) => {
        const member = Reflect.get(target, name);
        return typeof member === 'object' && member !== null ? this.#counted(member) : bound(target, member);
      },
    });
  }

  #counted<T extends object>(port: T): T {
    return new Proxy(port, {
      get: (target, name) => {
        const member = Reflect.get(target, name);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => this.#count(member.apply(target, args));
      },
    });
  }

  #count(answer: unknown): unknown {
    if (!(answer instanceof Promise)) return answer;
    this.asked += 1;
    this.open += 1;
    return answer.finally(() => {
      this.open -= 1;
    });
  }
}

const bound = (target: object, member: unknown): unknown =>
  typeof member === 'function' ? member.bind(target) : member;
