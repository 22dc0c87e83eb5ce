/** Ports of this machine for replicas, each given once while it is used. */
import { createSocket, type Socket } from 'node:dgram';
import { createServer } from 'node:net';

/** Below what outgoing connections take, above what services have. */
const FIRST = 20_000;
const LAST = 32_000;

/**
 * A replica listens seconds after it was given its port, which looks free until then to every other worker of the machine; and
 * whoever listens there first is asked for the other's rows. So a port is its own whose socket has it for UDP, which no replica
 * speaks. null: somebody else's has.
 */
const held = (port: number): Promise<Socket | null> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.once('error', () => socket.close(() => resolve(null)));
    socket.bind({ port, address: '127.0.0.1', exclusive: true }, () => resolve(socket.unref()));
  });

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

export class Ports {
  readonly #taken = new Map<number, Socket>();
  // Another worker of this machine begins elsewhere, so that both seldom look at the same port.
  #next = FIRST + Math.floor(Math.random() * (LAST - FIRST));

  async take(): Promise<number> {
    for (let tried = FIRST; tried < LAST; tried++) {
      const port = this.#next;
      this.#next = port + 1 < LAST ? port + 1 : FIRST;
      const socket = await held(port);
      if (socket === null) continue;
      if (await isFree(port)) {
        this.#taken.set(port, socket);
        return port;
      }
      socket.close();
    }
    throw new Error(`no port from ${FIRST} to ${LAST} of this machine is free`);
  }

  giveBack(port: number): void {
    this.#taken.get(port)?.close();
    this.#taken.delete(port);
  }
}
