/**
 * The frames of docs/decisions/0001: `u32 LE n`, `u32 LE h`, h bytes of JSON, n − 4 − h bytes of body.
 * A body is collected in one buffer that is made when its length is known, so that it is copied once on its way in;
 * the host's are shared, so that they travel to the store's thread without another copy.
 */
export const FRAME_BYTES_MAX = 2 ** 31;
export const HEADER_BYTES_MAX = 64 * 2 ** 20;

export type Frame<H> = { readonly header: H; readonly body: Uint8Array };

export class FrameError extends Error {}

export const privateBytes = (bytes: number): Uint8Array => new Uint8Array(bytes);

const NO_BODY = new Uint8Array(0);

/** The frame's head (lengths and header); the body's parts follow it on the socket as they are. */
export const frameHead = (header: object, bodyBytes: number): Buffer => {
  const text = JSON.stringify(header);
  const headerBytes = Buffer.byteLength(text);
  const frameBytes = 4 + headerBytes + bodyBytes;
  if (frameBytes > FRAME_BYTES_MAX) throw new FrameError(`a frame of ${frameBytes} bytes is above 2 GiB`);
  if (headerBytes > HEADER_BYTES_MAX) {
    throw new FrameError(`a frame header of ${headerBytes} bytes is above 64 MiB`);
  }
  const head = Buffer.allocUnsafe(8 + headerBytes);
  head.writeUInt32LE(frameBytes, 0);
  head.writeUInt32LE(headerBytes, 4);
  head.write(text, 8);
  return head;
};

/** Bytes read at once while no large body is under way: a frame of small rows and the beginning of the next. */
const SCRATCH_BYTES = 65_536;

/** Cuts a byte stream into frames: lengths → header → body, whatever the chunks. */
export class FrameReader<H> {
  readonly #makeBody: (bytes: number) => Uint8Array;
  readonly #onFrame: (frame: Frame<H>) => void;
  readonly #lengths = Buffer.allocUnsafe(8);
  #target: Uint8Array = this.#lengths;
  #filled = 0;
  #bodyBytes = 0;
  #header: H | null = null;
  #scratch: Uint8Array | null = null;
  #reading = false;

  constructor(makeBody: (bytes: number) => Uint8Array, onFrame: (frame: Frame<H>) => void) {
    this.#makeBody = makeBody;
    this.#onFrame = onFrame;
  }

  /** Where to read to next: straight into a large body, else into a buffer that `accept` copies from. */
  space(): Uint8Array {
    const left = this.#target.length - this.#filled;
    this.#reading = this.#header !== null && left >= SCRATCH_BYTES;
    if (this.#reading) return this.#target.subarray(this.#filled);
    this.#scratch ??= new Uint8Array(SCRATCH_BYTES);
    return this.#scratch;
  }

  /** `count` bytes were read into the last `space`. */
  accept(count: number): void {
    if (!this.#reading) {
      if (this.#scratch) this.push(this.#scratch.subarray(0, count));
      return;
    }
    this.#filled += count;
    if (this.#filled === this.#target.length) this.#advance();
  }

  /** True between two frames: the end of the stream is clean only here. */
  get idle(): boolean {
    return this.#target === this.#lengths && this.#filled === 0;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const count = Math.min(chunk.length - at, this.#target.length - this.#filled);
      const whole = count === chunk.length && at === 0;
      this.#target.set(whole ? chunk : chunk.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
      if (this.#filled === this.#target.length) this.#advance();
    }
  }

  #advance(): void {
    if (this.#target === this.#lengths) this.#startHeader();
    else if (this.#header === null) this.#startBody();
    else this.#deliver(this.#header, this.#target);
  }

  #startHeader(): void {
    const frameBytes = this.#lengths.readUInt32LE(0);
    const headerBytes = this.#lengths.readUInt32LE(4);
    if (frameBytes > FRAME_BYTES_MAX || headerBytes > HEADER_BYTES_MAX || headerBytes + 4 > frameBytes) {
      throw new FrameError(`frame lengths ${frameBytes} and ${headerBytes} are out of range`);
    }
    this.#bodyBytes = frameBytes - 4 - headerBytes;
    this.#expect(Buffer.allocUnsafe(headerBytes));
  }

  #startBody(): void {
    let header: H;
    try {
      header = JSON.parse((this.#target as Buffer).toString()) as H;
    } catch {
      throw new FrameError('a frame header is not JSON');
    }
    if (typeof header !== 'object' || header === null)
      throw new FrameError('a frame header is not an object');
    if (this.#bodyBytes === 0) {
      this.#deliver(header, NO_BODY);
      return;
    }
    this.#header = header;
    this.#expect(this.#makeBody(this.#bodyBytes));
  }

  #expect(target: Uint8Array): void {
    this.#target = target;
    this.#filled = 0;
  }

  #deliver(header: H, body: Uint8Array): void {
    this.#header = null;
    this.#expect(this.#lengths);
    this.#onFrame({ header, body });
  }
}
