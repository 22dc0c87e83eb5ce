/**
 * A handler process's standard output or error as lines, with limits: a long line is cut, and past a number of lines
 * a second the rest is dropped and counted, so that a flood costs no memory and never blocks the process on its pipe.
 */
import type { Readable } from 'node:stream';

/** Long enough for a traceback's longest line; the line's rest tells nobody anything. */
const LINE_BYTES_MAX = 8192;
/** A person reads fewer; a progress bar that redraws itself stays whole. */
const LINES_PER_SECOND_MAX = 200;
const NEWLINE = 10;

export class OutputLines {
  readonly #onLine: (text: string) => void;
  readonly #now: () => number;
  #partial: Buffer | null = null;
  #cutting = false;
  #second = 0;
  #linesLeft = LINES_PER_SECOND_MAX;
  #droppedBytes = 0;

  /** `now` in milliseconds, monotonic. */
  constructor(onLine: (text: string) => void, now: () => number = () => performance.now()) {
    this.#onLine = onLine;
    this.#now = now;
  }

  static attach(stream: Readable, onLine: (text: string) => void): OutputLines {
    const lines = new OutputLines(onLine);
    stream.on('data', (chunk: Buffer) => lines.push(chunk));
    stream.on('end', () => lines.end());
    stream.on('error', () => lines.end());
    return lines;
  }

  push(chunk: Buffer): void {
    this.#refill();
    let at = 0;
    while (at < chunk.length) {
      if (this.#linesLeft === 0) {
        this.#drop(chunk, at);
        return;
      }
      const end = chunk.indexOf(NEWLINE, at);
      if (end < 0) {
        this.#keep(chunk.subarray(at));
        return;
      }
      this.#keep(chunk.subarray(at, end));
      this.#emit();
      at = end + 1;
    }
  }

  end(): void {
    if (this.#partial !== null) this.#emit();
    this.#sayDropped();
  }

  #refill(): void {
    const second = Math.floor(this.#now() / 1000);
    if (second === this.#second) return;
    this.#second = second;
    this.#linesLeft = LINES_PER_SECOND_MAX;
    this.#sayDropped();
  }

  #sayDropped(): void {
    if (this.#droppedBytes === 0) return;
    this.#onLine(`[sluice: ${this.#droppedBytes} bytes of output were left out here]`);
    this.#droppedBytes = 0;
  }

  /** Past the limit nobody looks for lines; only where the last one ends matters, to begin afresh after it. */
  #drop(chunk: Buffer, at: number): void {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    this.#droppedBytes += (end > at ? end : chunk.length) - at;
    this.#partial = null;
    this.#cutting = end < chunk.length;
    if (end > at && end < chunk.length) this.#droppedBytes += chunk.length - end;
  }

  #keep(bytes: Buffer): void {
    if (this.#cutting || bytes.length === 0) return;
    const held = this.#partial?.length ?? 0;
    const kept = bytes.subarray(0, LINE_BYTES_MAX - held);
    // A copy: a slice would hold the whole chunk for as long as the line stays open.
    this.#partial = this.#partial ? Buffer.concat([this.#partial, kept]) : Buffer.from(kept);
    this.#cutting = kept.length < bytes.length;
  }

  #emit(): void {
    const bytes = this.#partial;
    const cut = this.#cutting;
    this.#partial = null;
    this.#cutting = false;
    if (bytes === null) return;
    this.#linesLeft -= 1;
    const text = bytes.toString().trimEnd();
    this.#onLine(cut ? `${text} [sluice: line cut at ${LINE_BYTES_MAX} bytes]` : text);
  }
}
