/** Questions and answers between the main thread and an ingress thread. */
import type { MessagePort, Worker } from 'node:worker_threads';

export type Handlers = Readonly<Record<string, (value: unknown) => unknown>>;

type Message =
  | { readonly ask: string; readonly id: number; readonly value: unknown }
  | { readonly answer: number; readonly value: unknown; readonly error: string | null };

type Waiting = { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void };

export class ThreadLink {
  readonly #port: Pick<MessagePort | Worker, 'postMessage'>;
  readonly #handlers: Handlers;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;

  constructor(port: MessagePort | Worker, handlers: Handlers) {
    this.#port = port;
    this.#handlers = handlers;
    (port as MessagePort).on('message', (message: Message) => this.#take(message));
  }

  ask(verb: string, value: unknown = null): Promise<unknown> {
    const id = this.#next;
    this.#next += 1;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#port.postMessage({ ask: verb, id, value } satisfies Message);
    });
  }

  /** The other side is gone: nothing will be answered any more. */
  cut(reason: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
  }

  #take(message: Message): void {
    if ('ask' in message) {
      void this.#answer(message.ask, message.id, message.value);
      return;
    }
    const waiting = this.#waiting.get(message.answer);
    this.#waiting.delete(message.answer);
    if (message.error === null) waiting?.resolve(message.value);
    else waiting?.reject(new Error(message.error));
  }

  async #answer(verb: string, id: number, value: unknown): Promise<void> {
    let message: Message;
    try {
      message = { answer: id, value: await this.#handlers[verb]?.(value), error: null };
    } catch (error) {
      message = { answer: id, value: null, error: error instanceof Error ? error.message : String(error) };
    }
    this.#port.postMessage(message);
  }
}
