/** The end of a wait, which retries, pauses and answers keep to. */
import { TimeoutError } from './errors.ts';

/** The server's answer at the end of a wait comes later than that by a round trip, for which this is long. */
export const ANSWER_MS = 1000;
/** For the answer of who does not wait: a large result takes its time to begin. */
const ONLY_ANSWER_MS = 30_000;
/** Of a timer; 24 days. */
const TIMER_LONGEST_MS = 2 ** 31 - 1;

export class Deadline {
  readonly timeoutMs: number;
  readonly #callId: string | null;
  readonly #endMs: number;

  constructor(timeoutMs: number, callId: string | null = null) {
    this.timeoutMs = timeoutMs;
    this.#callId = callId;
    this.#endMs = performance.now() + timeoutMs;
  }

  /** null: it takes as long as it takes. */
  static in(timeoutMs: number | undefined, callId: string | null = null): Deadline | null {
    return timeoutMs === undefined ? null : new Deadline(timeoutMs, callId);
  }

  get leftMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }

  /** Nobody waits: what there is is asked for once, and taken however large it is. */
  get isOnce(): boolean {
    return this.timeoutMs === 0;
  }

  error(cause?: unknown): TimeoutError {
    const error = new TimeoutError(this.#callId, this.timeoutMs);
    error.cause = cause;
    return error;
  }

  /** Tells when no answer is waited for any more; the function that comes back ends that. */
  onLate(late: () => void): () => void {
    const lateMs = this.#endMs + (this.isOnce ? ONLY_ANSWER_MS : ANSWER_MS) - performance.now();
    const timer = setTimeout(late, Math.min(TIMER_LONGEST_MS, lateMs));
    return () => clearTimeout(timer);
  }

  /** What a promise gives that others wait for as well, and that goes on without this wait. */
  bound<T>(promise: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const end = this.onLate(() => reject(this.error()));
      promise.finally(end).then(resolve, reject);
    });
  }
}
