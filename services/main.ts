/**
 * The services of one process on a store: ingress (HTTP threads), buffer and reaper. Started in the order in which
 * work flows out, stopped in the order in which it flows in, so that nothing accepted meets a closed door.
 */
import type { Settings } from '../shared/config/settings.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Service } from '../shared/runtime/service.ts';
import type { StoreServer } from '../shared/store/ports/server.ts';
import { Buffer } from './buffer/buffer.ts';
import type { Clocks } from './buffer/window.ts';
import { makeIngress } from './ingress/pool.ts';
import { Reaper } from './reaper/reaper.ts';

export type ServicesOptions = {
  readonly settings: Settings;
  readonly server: StoreServer;
  readonly log: Log;
};

export type Services = Service & {
  /** `http://host:port`, once started. */
  readonly address: () => string;
  /** The first step of a stop: readiness falls while everything is still served. */
  readonly leave: () => Promise<void>;
};

const CLOCKS: Clocks = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

export const makeServices = ({ settings, server, log }: ServicesOptions): Services => {
  const store = server.connect();
  const buffer = new Buffer(store, log, CLOCKS);
  const reaper = new Reaper({ store, log, claimsMax: settings.claimsMax, wall: CLOCKS.wall });
  const ingress = makeIngress({ settings, server, log });
  return {
    address: () => ingress.address(),
    leave: () => ingress.leave(),
    start: async () => {
      await buffer.start();
      await reaper.start();
      await ingress.start();
    },
    stop: async () => {
      await ingress.stop();
      await buffer.stop();
      await reaper.stop();
      await store.close();
    },
  };
};
