/**
 * Connections that have sent no request yet: browsers and clients open some ahead. Node does not count them as idle, so
 * that a drain would wait for them until their headers are overdue.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export class UnusedConnections {
  readonly #sockets = new Set<Socket>();

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  used(socket: Socket): void {
    this.#sockets.delete(socket);
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
