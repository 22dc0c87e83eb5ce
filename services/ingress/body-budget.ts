/** What the request bodies of a thread hold of its memory, counted in bytes as they arrive or are decoded. */
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { SluiceError } from '../../shared/errors/sluice-error.ts';

/** A thread may hold so many full bodies at once; more is refused for a moment instead of running out of memory. */
const BODIES_HELD_MAX = 4;
/** Bodies below this are not counted: they are no larger than a head may be, and the connections' limit bounds both. */
const COUNTED_BYTES_MIN = 16 * 1024;

export class BodyBudget {
  readonly #bodyBytesMax: number;
  #left: number;

  constructor(bodyBytesMax: number) {
    this.#bodyBytesMax = bodyBytesMax;
    this.#left = bodyBytesMax * BODIES_HELD_MAX;
  }

  /**
   * What counts the body of a request until its response is over; null: it is too small to count.
   * @throws SluiceError `queue_full` where its length alone is more than is left
   */
  open(headers: IncomingHttpHeaders, response: ServerResponse): HeldBody | null {
    const bytes = Number(headers['content-length']);
    const isOpen = headers['transfer-encoding'] !== undefined || headers['content-encoding'] !== undefined;
    if (!(isOpen || bytes >= COUNTED_BYTES_MIN)) return null;
    if (bytes > this.#left && bytes <= this.#bodyBytesMax) throw this.full();
    const held = new HeldBody(this);
    response.once('close', () => held.free());
    return held;
  }

  /** False: so much is not left. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#left += bytes;
  }

  full(): SluiceError {
    const bytes = this.#bodyBytesMax * BODIES_HELD_MAX;
    return new SluiceError('queue_full', `This thread holds ${bytes} bytes of request bodies at most.`, {
      retry_after_seconds: 1,
    });
  }
}

/** The bytes of one body. Once it is free it takes no more. */
export class HeldBody {
  readonly #budget: BodyBudget;
  #bytes = 0;
  #isFree = false;

  constructor(budget: BodyBudget) {
    this.#budget = budget;
  }

  /** @returns why the bytes may not be held; null: they are */
  add(bytes: number): SluiceError | null {
    if (this.#isFree) return new SluiceError('invalid_request', 'The sender of the body has gone.');
    if (!this.#budget.take(bytes)) return this.#budget.full();
    this.#bytes += bytes;
    return null;
  }

  /** Some are not held any more. */
  drop(bytes: number): void {
    if (this.#isFree) return;
    this.#bytes -= bytes;
    this.#budget.give(bytes);
  }

  free(): void {
    this.drop(this.#bytes);
    this.#isFree = true;
  }
}
