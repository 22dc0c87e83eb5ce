/**
 * Reads flatbuffer tables that nobody vouches for: every offset, vtable, vector and string is checked against the
 * buffer before it is followed (the `flatbuffers` package for JavaScript has no verifier). What is taken passes the verifier of
 * C++ too, which readers of other languages run over it (alignment, the NUL after strings, the count of tables): a stream goes
 * on to them as it came, beside other callers' rows. Format: https://flatbuffers.dev/internals
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { SluiceError } from '../errors/sluice-error.ts';

export function invalid(detail: string): never {
  throw new SluiceError('invalid_arrow', detail);
}

export type Vector = { readonly start: number; readonly length: number };
const NO_ITEMS: Vector = { start: 0, length: 0 };
/** Tables for each byte at most, as Arrow's C++ reader has it: offsets may share their tables. */
const TABLES_PER_BYTE_MAX = 8;

export class FlatBuffer {
  readonly bytes: Buffer;
  readonly #where: string;
  #tables = 0;

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

  /** As `need`, where readers take the bytes as one number of `alignment` bytes. */
  needAligned(position: number, length: number, alignment: number): void {
    this.need(position, length);
    if ((position & (alignment - 1)) !== 0)
      this.fail(`its metadata has ${alignment} bytes at ${position}, where they are not aligned`);
  }

  u32(position: number): number {
    this.need(position, 4);
    return this.bytes.readUInt32LE(position);
  }

  /** What the offset at `position` points to. */
  target(position: number): number {
    this.needAligned(position, 4, 4);
    const offset = this.bytes.readUInt32LE(position);
    if (offset === 0) this.fail(`its metadata has an offset of 0 at ${position}`);
    return position + offset;
  }

  root(): FlatTable {
    return this.tableAt(0);
  }

  /** The table that the offset at `position` points to. */
  tableAt(position: number): FlatTable {
    if (++this.#tables > this.bytes.length * TABLES_PER_BYTE_MAX)
      this.fail('its metadata has too many tables');
    return new FlatTable(this, this.target(position));
  }
}

export class FlatTable {
  readonly flat: FlatBuffer;
  readonly #position: number;
  readonly #vtable: number;
  readonly #vtableBytes: number;

  constructor(flat: FlatBuffer, position: number) {
    flat.needAligned(position, 4, 4);
    const vtable = position - flat.bytes.readInt32LE(position);
    flat.needAligned(vtable, 4, 2);
    this.flat = flat;
    this.#position = position;
    this.#vtable = vtable;
    this.#vtableBytes = flat.bytes.readUInt16LE(vtable);
    flat.needAligned(vtable, this.#vtableBytes, 2);
    if ((this.#vtableBytes & 1) !== 0) flat.fail(`its metadata has a vtable of ${this.#vtableBytes} bytes`);
  }

  /** Where member `slot` (0, 1, …) with `length` bytes lies; 0 when it has its default. */
  #member(slot: number, length: number): number {
    const entry = 4 + slot * 2;
    if (entry + 2 > this.#vtableBytes) return 0;
    const offset = this.flat.bytes.readUInt16LE(this.#vtable + entry);
    if (offset === 0) return 0;
    this.flat.needAligned(this.#position + offset, length, length);
    return this.#position + offset;
  }

  has(slot: number): boolean {
    return this.#member(slot, 1) !== 0;
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

  table(slot: number): FlatTable | null {
    const at = this.#member(slot, 4);
    return at === 0 ? null : this.flat.tableAt(at);
  }

  vector(slot: number, itemBytes: number): Vector {
    const at = this.#member(slot, 4);
    if (at === 0) return NO_ITEMS;
    const target = this.flat.target(at);
    this.flat.needAligned(target, 4, 4);
    const length = this.flat.bytes.readUInt32LE(target);
    // Items are numbers, or structs of 64-bit integers.
    if (length > 0) this.flat.needAligned(target + 4, length * itemBytes, Math.min(itemBytes, 8));
    return { start: target + 4, length };
  }

  /** A vector of tables, each looked at by `read`. */
  tables<T>(slot: number, read: (table: FlatTable) => T): T[] {
    const { start, length } = this.vector(slot, 4);
    const out = new Array<T>(length);
    for (let i = 0; i < length; i++) out[i] = read(this.flat.tableAt(start + i * 4));
    return out;
  }

  /** The bytes of a string; null where there is none. */
  text(slot: number): Buffer | null {
    const { start, length } = this.vector(slot, 1);
    if (start === 0) return null;
    this.flat.need(start, length + 1);
    if (this.flat.bytes[start + length] !== 0) this.flat.fail(`its metadata has a string without its NUL`);
    return this.flat.bytes.subarray(start, start + length);
  }

  string(slot: number): string | null {
    const text = this.text(slot);
    if (text === null) return null;
    if (isAscii(text)) return text.toString('latin1');
    if (!isUtf8(text)) this.flat.fail('its metadata has a name that is not UTF-8');
    return text.toString('utf8');
  }
}
