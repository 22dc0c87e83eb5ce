/** Ports of this machine for replicas, each given once while it is used. */
import { createServer } from 'node:net';

/** Below what outgoing connections take, above what services have. */
const FIRST = 20_000;
const LAST = 32_000;

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

export class Ports {
  readonly #taken = new Set<number>();
  // Another worker of this machine begins elsewhere, so that both seldom look at the same port.
  #next = FIRST + Math.floor(Math.random() * (LAST - FIRST));

  async take(): Promise<number> {
    for (let tried = FIRST; tried < LAST; tried++) {
      const port = this.#next;
      this.#next = port + 1 < LAST ? port + 1 : FIRST;
      if (this.#taken.has(port)) continue;
      this.#taken.add(port);
      if (await isFree(port)) return port;
      this.#taken.delete(port);
    }
    throw new Error(`no port from ${FIRST} to ${LAST} of this machine is free`);
  }

  giveBack(port: number): void {
    this.#taken.delete(port);
  }
}
