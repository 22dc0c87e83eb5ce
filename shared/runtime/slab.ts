/**
 * Things that come and go, each under the key that `insert` gave; keys are given again. A Set of them would keep them long after
 * they went (see id-map.ts).
 */
export class Slab<V> {
  readonly #values: (V | undefined)[] = [];
  readonly #free: number[] = [];

  get size(): number {
    return this.#values.length - this.#free.length;
  }

  insert(value: V): number {
    const key = this.#free.pop() ?? this.#values.length;
    this.#values[key] = value;
    return key;
  }

  /** Once for each key that `insert` gave. */
  remove(key: number): void {
    this.#values[key] = undefined;
    this.#free.push(key);
  }

  /** In no order. What goes or comes meanwhile may be among them or not. */
  *[Symbol.iterator](): Generator<V> {
    for (const value of this.#values) if (value !== undefined) yield value;
  }
}
