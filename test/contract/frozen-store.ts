/** The embedded store over a channel that freezes what crosses it: a side that changes what it has posted or got throws. */
import { localChannel, type Port } from '../../shared/store/embedded/channel.ts';
import { openEmbeddedStore } from '../../shared/store/embedded/index.ts';
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

const frozenChannel = (): readonly [Port, Port] => {
  const [theirs, ours] = localChannel();
  return [freezing(theirs), freezing(ours)];
};

export const openFrozenStore = (options: EmbeddedOptions): Promise<StoreServer> =>
  openEmbeddedStore(options, frozenChannel);
