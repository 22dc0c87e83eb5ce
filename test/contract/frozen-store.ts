/** The embedded store over a channel that freezes what crosses it: a side that changes what it has posted or got throws. */
import { localChannel, type Port } from '../../shared/store/embedded/channel.ts';
import { makeClient } from '../../shared/store/embedded/client.ts';
import { openStoreLoop } from '../../shared/store/embedded/store-loop.ts';
import type { EmbeddedOptions, StoreServer } from '../../shared/store/ports/server.ts';

/** Bytes cannot be frozen. */
const freeze = (value: unknown): void => {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Object.isFrozen(value))
    return;
  Object.freeze(value);
  for (const member of Object.values(value)) freeze(member);
};

const freezing = (port: Port): Port => {
  const post = port.postMessage.bind(port);
  port.postMessage = (message) => {
    freeze(message);
    post(message);
  };
  return port;
};

export const openFrozenStore = async (options: EmbeddedOptions): Promise<StoreServer> => {
  const loop = openStoreLoop(options);
  const { generation } = loop;
  let closed: Promise<void> | null = null;
  return {
    connect: () => {
      const [theirs, ours] = localChannel();
      loop.connect(freezing(theirs));
      const { durability } = options;
      return makeClient({ kind: 'embedded', port: freezing(ours), generation, durability });
    },
    ticket: () => {
      throw new Error('This store has no tickets.');
    },
    close: () => {
      closed ??= loop.close();
      return closed;
    },
  };
};
