/**
 * A TCP proxy between a process and what it talks to, that can fall silent: half-open sockets, as a pulled cable or a
 * dropped route leaves them. Bytes that come meanwhile wait, and arrive late when it goes on, as from a network that heals.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** What is forwarded for the bytes that came, of one connection. */
type Change = (bytes: Buffer) => Buffer;
export type Changes = { readonly there: Change; readonly back: Change };

const asItCame: Change = (bytes) => bytes;
const UNCHANGED: Changes = { there: asItCame, back: asItCame };

export class TcpProxy {
  readonly port: number;
  readonly #changes: () => Changes;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;
  #isSilent = false;

  private constructor(server: Server, sockets: Set<Socket>, changes: () => Changes) {
    this.#changes = changes;
    this.#server = server;
    this.#sockets = sockets;
    this.port = (server.address() as { port: number }).port;
  }

  /** @param changes made for each connection */
  static async start(targetPort: number, changes = (): Changes => UNCHANGED): Promise<TcpProxy> {
    const sockets = new Set<Socket>();
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new TcpProxy(server, sockets, changes);
    server.on('connection', (near) => proxy.#join(near, connect(targetPort, '127.0.0.1')));
    return proxy;
  }

  /** Forwards nothing any more, in neither direction, and closes nothing. New connections are taken and not forwarded. */
  silence(): void {
    this.#isSilent = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** What waited is forwarded, and all that comes. */
  resume(): void {
    this.#isSilent = false;
    for (const socket of this.#sockets) socket.resume();
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #join(near: Socket, far: Socket): void {
    const { there, back } = this.#changes();
    this.#forward(near, far, there);
    this.#forward(far, near, back);
    if (this.#isSilent) return;
    near.resume();
    far.resume();
  }

  #forward(from: Socket, to: Socket, change: Change): void {
    this.#sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (bytes) => void to.write(change(bytes)));
    from.on('error', () => undefined);
    // A socket that is paused tells neither data nor its end.
    from.on('end', () => to.end());
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
