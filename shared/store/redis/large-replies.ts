/**
 * Large values are read from a connection straight into memory of their own, and reach the decoder of ioredis as one chunk, of
 * which it makes a view. As `data` events they would come as chunks of 64 KiB that are put together by a copy: measured, the
 * collector spent half of an ingress on these.
 */
import type { Socket } from 'node:net';
import { sharedBytes } from '../../runtime/shared-bytes.ts';

/** Below this the copy of ioredis costs less than a buffer of its own. */
const LARGE_BYTES_MIN = 65_536;
/** Bytes read at once while no large value is under way. */
const SCRATCH_BYTES = 65_536;
/** Values are looked at as arrays of numbers where they lie. */
const ALIGNED_BYTES = 8;

const [LF, TEXT, VERBATIM, LONG_ERROR] = [0x0a, 0x24, 0x3d, 0x21];
const NOTHING = Buffer.alloc(0);

const makeSpace = (headBytes: number, bytes: number): Buffer => {
  const before = -headBytes & (ALIGNED_BYTES - 1);
  return Buffer.from(sharedBytes(before + bytes).buffer, before);
};

/**
 * Cuts the bytes that a server answers (RESP 2 and 3) into chunks: each large text alone, from its length to its end, and
 * what lies between them. Only lines and lengths are looked at: the items of lists and maps follow one another.
 */
export class ReplyCutter {
  readonly #emit: (chunk: Buffer) => void;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  /** Bytes at the scratch's front: the beginning of a line that tells a length. */
  #held = 0;
  /** Bytes of a text, and of its end, that are still to come. */
  #skip = 0;
  #isInLine = false;
  #large: Buffer | null = null;
  #filled = 0;

  constructor(emit: (chunk: Buffer) => void) {
    this.#emit = emit;
  }

  /** Where to read to next; never empty. */
  space(): Uint8Array {
    return this.#large?.subarray(this.#filled) ?? this.#scratch.subarray(this.#held);
  }

  /** `count` bytes were read into the last `space`. */
  accept(count: number): void {
    if (this.#large !== null) {
      this.#filled += count;
      // A reader that counts the seconds of silence hears that there was none.
      if (!this.#deliver(this.#large)) this.#emit(NOTHING);
      return;
    }
    const end = this.#held + count;
    this.#held = 0;
    this.#cut(this.#scratch.subarray(0, end));
  }

  #cut(bytes: Buffer): void {
    let [at, told] = [0, 0];
    while (at < bytes.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, bytes.length - at);
        this.#skip -= step;
        at += step;
        continue;
      }
      const type = this.#isInLine ? 0 : bytes[at]!;
      const hasLength = type === TEXT || type === VERBATIM || type === LONG_ERROR;
      const lineEnd = bytes.indexOf(LF, at);
      if (lineEnd === -1) {
        if (hasLength) this.#held = bytes.length - at;
        else this.#isInLine = true;
        break;
      }
      this.#isInLine = false;
      const length = hasLength ? Number(bytes.toString('latin1', at + 1, lineEnd - 1)) : -1;
      if (type === TEXT && length >= LARGE_BYTES_MIN) {
        this.#tell(bytes.subarray(told, at));
        at += this.#begin(bytes.subarray(at), lineEnd + 1 - at, length);
        told = at;
        continue;
      }
      this.#skip = length < 0 ? 0 : length + 2;
      at = lineEnd + 1;
    }
    this.#tell(bytes.subarray(told, bytes.length - this.#held));
    if (this.#held > 0) this.#scratch.copyWithin(0, bytes.length - this.#held, bytes.length);
  }

  /** @returns how many of the bytes belong to the large text */
  #begin(bytes: Buffer, headBytes: number, length: number): number {
    const large = makeSpace(headBytes, headBytes + length + 2);
    this.#filled = bytes.copy(large);
    this.#large = large;
    const taken = this.#filled;
    this.#deliver(large);
    return taken;
  }

  #deliver(large: Buffer): boolean {
    if (this.#filled < large.length) return false;
    this.#large = null;
    this.#emit(large);
    return true;
  }

  /** The scratch is read into again: what goes on is a copy. */
  #tell(bytes: Buffer): void {
    if (bytes.length > 0) this.#emit(Buffer.from(bytes));
  }
}

/** How `net.connect` and `tls.connect` are told to read by a cutter; `data` events tell its chunks. One for each socket. */
export const cutReplies = () => {
  let socket: Socket;
  const cutter = new ReplyCutter((chunk) => socket.emit('data', chunk));
  return {
    buffer: () => cutter.space(),
    callback(this: Socket, count: number): boolean {
      socket = this;
      cutter.accept(count);
      return true;
    },
  };
};
