/** The two ways from a client to the store: between threads, and within the thread that the store runs in. */
import { EventEmitter } from 'node:events';
import { MessagePort, receiveMessageOnPort } from 'node:worker_threads';

/** One end; a MessagePort is one as well. */
export interface Port {
  postMessage(message: unknown): void;
  /** Emits `message` and, at both ends, `close`; neither before the code that posts has run to its end. */
  on(event: 'message' | 'close', listener: (message: unknown) => void): unknown;
  once(event: 'close', listener: () => void): unknown;
  close(): void;
}

/**
 * An end within one thread. What is posted arrives as soon as the running code ends, where a thread would have to be woken
 * first, and as it is: a clone of each message, as between threads, was a tenth of this thread's work. So neither side
 * changes what it has posted or got; the contract suite runs over a channel that freezes it.
 */
class LocalPort extends EventEmitter implements Port {
  #other: LocalPort | null = null;

  static pair(): [LocalPort, LocalPort] {
    const [one, other] = [new LocalPort(), new LocalPort()];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  postMessage(message: unknown): void {
    const other = this.#other;
    if (other === null) return;
    queueMicrotask(() => other.emit('message', message));
  }

  close(): void {
    const other = this.#other;
    if (other === null) return;
    this.#other = null;
    other.#other = null;
    queueMicrotask(() => {
      this.emit('close');
      other.emit('close');
    });
  }
}

export const localChannel = (): readonly [Port, Port] => LocalPort.pair();

/** What another thread posted and this one's event loop has not given out yet, in order. */
export function* waitingAt(port: Port): Generator<unknown> {
  if (!(port instanceof MessagePort)) return;
  for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port))
    yield got.message;
}

/**
 * Runs `flush` after the running code. Towards another thread later, at the end of this turn of the event loop: a message
 * costs what many requests in it cost.
 */
export const flushSoon = (port: Port, flush: () => void): void => {
  if (port instanceof MessagePort) setImmediate(flush);
  else queueMicrotask(flush);
};
