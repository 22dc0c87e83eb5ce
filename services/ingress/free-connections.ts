/**
 * Connections that nobody is answered on, and that Node does not count as idle, so that a drain would wait for them:
 * those that have sent no request yet (browsers and clients open some ahead), and those whose request is answered while
 * the rest of its body is still to come.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export class FreeConnections {
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

  /** The request is refused: of its body nothing is wanted any more. */
  refused(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    response.once('finish', () => {
      if (!(request.complete || socket.destroyed)) this.#sockets.add(socket);
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
