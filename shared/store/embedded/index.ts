/** The embedded store: SQLite and segment files, in the thread that opens it. */
import { MessageChannel } from 'node:worker_threads';
import type { EmbeddedOptions, StoreServer } from '../ports/server.ts';
import { localChannel } from './channel.ts';
import { makeClient } from './client.ts';
import { openStoreLoop } from './store-loop.ts';

/**
 * Opens or makes the data directory. Rejects with a SluiceError when another process owns it or its format is another.
 * When a commit fails later, the process ends with status 70: what the disk holds is then unknown.
 * @param channel joins this thread's clients to the store
 */
export const openEmbeddedStore = async (
  options: EmbeddedOptions,
  channel = localChannel,
): Promise<StoreServer> => {
  const loop = openStoreLoop(options);
  const { generation } = loop;
  const { durability } = options;
  let closed: Promise<void> | null = null;
  return {
    connect: () => {
      const [theirs, ours] = channel();
      loop.connect(theirs);
      return makeClient({ kind: 'embedded', port: ours, generation, durability });
    },
    ticket: () => {
      const { port1, port2 } = new MessageChannel();
      loop.connect(port1);
      return { data: { kind: 'embedded', port: port2, generation, durability }, transfer: [port2] };
    },
    close: () => {
      closed ??= loop.close();
      return closed;
    },
  };
};
