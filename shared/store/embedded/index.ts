/** The embedded store: SQLite and segment files in a thread of this process. */
import { once } from 'node:events';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { EmbeddedOptions, StoreServer } from '../ports/server.ts';
import type { Store } from '../ports/store.ts';
import { type ClientTicket, makeClient } from './client.ts';
import { fromErrorMessage } from './errors.ts';
import type { Control, Opened } from './messages.ts';

/** The exit status of a process whose store could not commit (EX_SOFTWARE). */
const FATAL_EXIT = 70;

/**
 * Opens or makes the data directory. Rejects with a SluiceError when another process owns it or its format is another.
 * When a commit fails later, the process ends with status 70: what the disk holds is then unknown.
 */
export const openEmbeddedStore = async (options: EmbeddedOptions): Promise<StoreServer> => {
  const worker = new Worker(new URL('./thread.ts', import.meta.url), {
    workerData: options,
    name: 'sluice-store',
    // Flags that only a main thread may have (`--input-type`) would keep the thread from starting.
    execArgv: [],
  });
  const [opened] = (await once(worker, 'message')) as [Opened];
  if (opened.kind === 'refused') {
    await worker.terminate();
    throw fromErrorMessage(opened.error);
  }
  if (opened.kind === 'failed') throw new Error(opened.detail);
  let isClosing = false;
  const fail = (): void => {
    if (!isClosing) process.exit(FATAL_EXIT);
  };
  // The thread has said why on standard error.
  worker.on('message', (message: Opened) => {
    if (message.kind === 'failed') process.exit(FATAL_EXIT);
  });
  worker.on('error', (error) => {
    process.stderr.write(`the store thread died: ${error.stack ?? error.message}\n`);
    fail();
  });
  const exited = once(worker, 'exit').then(fail);

  const ticketOf = (): ClientTicket => {
    const { port1, port2 } = new MessageChannel();
    worker.postMessage({ kind: 'connect', port: port1 } satisfies Control, [port1]);
    const { generation } = opened;
    return { kind: 'embedded', port: port2, generation, durability: options.durability };
  };
  return {
    connect: (): Store => makeClient(ticketOf()),
    ticket: () => {
      const data = ticketOf();
      return { data, transfer: [data.port] };
    },
    close: async () => {
      if (!isClosing) {
        isClosing = true;
        worker.postMessage({ kind: 'close' } satisfies Control);
      }
      await exited;
    },
  };
};
