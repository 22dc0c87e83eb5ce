/** A binary min-heap of things that fall due. Entries are not removed when they lose their meaning: the reader checks. */
export class DueHeap<T> {
  readonly #entries: { readonly at: number; readonly item: T }[] = [];

  peek(): { readonly at: number; readonly item: T } | undefined {
    return this.#entries[0];
  }

  push(at: number, item: T): void {
    const entries = this.#entries;
    let index = entries.push({ at, item }) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (entries[parent]!.at <= entries[index]!.at) return;
      [entries[parent], entries[index]] = [entries[index]!, entries[parent]!];
      index = parent;
    }
  }

  pop(): void {
    const entries = this.#entries;
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return;
    entries[0] = last;
    let index = 0;
    for (;;) {
      const left = index * 2 + 1;
      if (left >= entries.length) return;
      const right = left + 1;
      const child = right < entries.length && entries[right]!.at < entries[left]!.at ? right : left;
      if (entries[index]!.at <= entries[child]!.at) return;
      [entries[child], entries[index]] = [entries[index]!, entries[child]!];
      index = child;
    }
  }
}
