/**
 * The ids of a file's lines, each once. Of an id 71 bits of its SHA-256 are kept, in some sixteen bytes of memory: among the six
 * million lines that the largest file may have, two ids are taken for one with a chance of one in a hundred million.
 */
import { hash } from 'node:crypto';

const SHARDS = 256;
const SHARD_SLOTS = 64;
/** Fuller tables are slow. */
const FILL_MAX = 0.7;

/** An open-addressing table; 0 is an empty slot. */
type Shard = { slots: BigUint64Array; used: number };

export class CustomIds {
  readonly #shards: (Shard | undefined)[] = new Array<undefined>(SHARDS);

  /** False when it was there. */
  add(id: string): boolean {
    const digest = hash('sha256', id, 'buffer');
    const word = digest.readBigUInt64LE(0) | 1n;
    const at = digest[8]!;
    let shard = this.#shards[at];
    if (shard === undefined) {
      shard = { slots: new BigUint64Array(SHARD_SLOTS), used: 0 };
      this.#shards[at] = shard;
    }
    if (!place(shard.slots, word)) return false;
    shard.used += 1;
    if (shard.used > shard.slots.length * FILL_MAX) grow(shard);
    return true;
  }
}

const place = (slots: BigUint64Array, word: bigint): boolean => {
  const mask = slots.length - 1;
  let at = Number((word >> 8n) & 0xffff_ffffn) & mask;
  for (;;) {
    const there = slots[at]!;
    if (there === 0n) break;
    if (there === word) return false;
    at = (at + 1) & mask;
  }
  slots[at] = word;
  return true;
};

const grow = (shard: Shard): void => {
  const larger = new BigUint64Array(shard.slots.length * 2);
  for (const word of shard.slots) if (word !== 0n) place(larger, word);
  shard.slots = larger;
};
