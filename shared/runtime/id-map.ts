/**
 * A map of ids to values that come and go by the ten thousand a second. V8's own moves its entries to a new table now and then,
 * and a table that the collector has once called old keeps all later ones and what lay in them, until the next full
 * collection: each minor one then copies values that are long gone (measured: 1.7 KB a call, and a tenth of the
 * processor). Here a value lies in a page of neighbouring ids, and its place is emptied when it goes.
 */

/** Small, so that ids far apart do not cost a page of nothing each. */
const PAGE_IDS = 16;

type Page<V> = { count: number; readonly values: (V | undefined)[] };

/** @typeParam V anything but undefined. Ids are whole numbers from 0 on; neighbours share memory. */
export class IdMap<V> {
  readonly #pages = new Map<number, Page<V>>();
  #lastNumber = -1;
  #lastPage: Page<V> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): V | undefined {
    const number = Math.floor(id / PAGE_IDS);
    return this.#page(number)?.values[id - number * PAGE_IDS];
  }

  has(id: number): boolean {
    return this.get(id) !== undefined;
  }

  set(id: number, value: V): void {
    const number = Math.floor(id / PAGE_IDS);
    let page = this.#page(number);
    if (page === undefined) {
      page = { count: 0, values: new Array<V | undefined>(PAGE_IDS).fill(undefined) };
      this.#pages.set(number, page);
      [this.#lastNumber, this.#lastPage] = [number, page];
    }
    const at = id - number * PAGE_IDS;
    if (page.values[at] === undefined) {
      page.count += 1;
      this.#size += 1;
    }
    page.values[at] = value;
  }

  delete(id: number): boolean {
    const number = Math.floor(id / PAGE_IDS);
    const page = this.#page(number);
    const at = id - number * PAGE_IDS;
    if (page?.values[at] === undefined) return false;
    page.values[at] = undefined;
    page.count -= 1;
    this.#size -= 1;
    if (page.count === 0) this.#drop(number);
    return true;
  }

  clear(): void {
    this.#pages.clear();
    this.#drop(-1);
    this.#size = 0;
  }

  /** In the order in which the ids' pages came, which is that of the ids where these are given in order. Entries may go meanwhile. */
  *[Symbol.iterator](): Generator<[id: number, value: V]> {
    for (const [number, { values }] of this.#pages) {
      for (let at = 0; at < PAGE_IDS; at += 1) {
        const value = values[at];
        if (value !== undefined) yield [number * PAGE_IDS + at, value];
      }
    }
  }

  *keys(): Generator<number> {
    for (const [id] of this) yield id;
  }

  *values(): Generator<V> {
    for (const [, value] of this) yield value;
  }

  /** Neighbours are mostly asked for one after the other. */
  #page(number: number): Page<V> | undefined {
    if (number !== this.#lastNumber) [this.#lastNumber, this.#lastPage] = [number, this.#pages.get(number)];
    return this.#lastPage;
  }

  #drop(number: number): void {
    this.#pages.delete(number);
    this.#lastNumber = -1;
    this.#lastPage = undefined;
  }
}
