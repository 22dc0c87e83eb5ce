/**
 * Reads flatbuffer tables that nobody vouches for: every offset, vtable, vector and string is checked against the
 * buffer before it is followed (the `flatbuffers` package for JavaScript has no verifier). Format:
 * https://flatbuffers.dev/internals
 */
import { SluiceError } from '../errors/sluice-error.ts';

export function invalid(detail: string): never {
  throw new SluiceError('invalid_arrow', detail);
}

export type Vector = { readonly start: number; readonly length: number };

export class FlatBuffer {
  readonly bytes: Buffer;
  readonly #where: string;

  /** `where` begins every error, such as 'message 2'. */
  constructor(bytes: Uint8Array, where: string) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
  }

  fail(what: string): never {
    return invalid(`${this.#where}: ${what}`);
  }

  need(position: number, length: number): void {
    if (position < 0 || position + length > this.bytes.length)
      this.fail(
        `its metadata points outside of itself (${position} + ${length} of ${this.bytes.length} bytes)`,
      );
  }

  u32(position: number): number {
    this.need(position, 4);
    return this.bytes.readUInt32LE(position);
  }

  root(): FlatTable {
    return new FlatTable(this, this.u32(0));
  }
}

export class FlatTable {
  readonly flat: FlatBuffer;
  readonly #position: number;
  readonly #vtable: number;
  readonly #vtableBytes: number;

  constructor(flat: FlatBuffer, position: number) {
    flat.need(position, 4);
    const vtable = position - flat.bytes.readInt32LE(position);
    flat.need(vtable, 4);
    this.flat = flat;
    this.#position = position;
    this.#vtable = vtable;
    this.#vtableBytes = flat.bytes.readUInt16LE(vtable);
    flat.need(vtable, this.#vtableBytes);
  }

  /** Where member `slot` (0, 1, …) with `length` bytes lies; 0 when it has its default. */
  #member(slot: number, length: number): number {
    const entry = 4 + slot * 2;
    if (entry + 2 > this.#vtableBytes) return 0;
    const offset = this.flat.bytes.readUInt16LE(this.#vtable + entry);
    if (offset === 0) return 0;
    this.flat.need(this.#position + offset, length);
    return this.#position + offset;
  }

  u8(slot: number, fallback = 0): number {
    const at = this.#member(slot, 1);
    return at === 0 ? fallback : this.flat.bytes[at]!;
  }

  i16(slot: number, fallback = 0): number {
    const at = this.#member(slot, 2);
    return at === 0 ? fallback : this.flat.bytes.readInt16LE(at);
  }

  i32(slot: number, fallback = 0): number {
    const at = this.#member(slot, 4);
    return at === 0 ? fallback : this.flat.bytes.readInt32LE(at);
  }

  i64(slot: number, what: string): number {
    const at = this.#member(slot, 8);
    return at === 0 ? 0 : this.int64At(at, what);
  }

  /** A 64-bit length or id as a number: negative ones and those above 2^53 are refused. */
  int64At(position: number, what: string): number {
    const high = this.flat.bytes.readInt32LE(position + 4);
    const value = this.flat.bytes.readUInt32LE(position) + high * 4294967296;
    if (high < 0 || high >= 2 ** 21) this.flat.fail(`${what} is ${value}, which is out of range`);
    return value;
  }

  /** Follows the offset at member `slot`. */
  #target(slot: number): number {
    const at = this.#member(slot, 4);
    return at === 0 ? 0 : at + this.flat.bytes.readUInt32LE(at);
  }

  table(slot: number): FlatTable | null {
    const target = this.#target(slot);
    return target === 0 ? null : new FlatTable(this.flat, target);
  }

  vector(slot: number, itemBytes: number): Vector {
    const target = this.#target(slot);
    if (target === 0) return { start: 0, length: 0 };
    const length = this.flat.u32(target);
    this.flat.need(target + 4, length * itemBytes);
    return { start: target + 4, length };
  }

  tableAt(vector: Vector, index: number): FlatTable {
    const at = vector.start + index * 4;
    return new FlatTable(this.flat, at + this.flat.bytes.readUInt32LE(at));
  }

  string(slot: number): string | null {
    const { start, length } = this.vector(slot, 1);
    return start === 0 ? null : this.flat.bytes.toString('utf8', start, start + length);
  }
}
