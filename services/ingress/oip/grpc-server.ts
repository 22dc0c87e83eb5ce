/**
 * A thread's gRPC server. It listens as the HTTP server does, with its own socket on a port that all threads share; grpc-js,
 * which cannot share ports, is handed the connections.
 */
import { createServer, type Server as SocketServer } from 'node:net';
import { type ConnectionInjector, Server, ServerCredentials } from '@grpc/grpc-js';
import type { Room } from '../room.ts';
import { GrpcDoor } from './grpc-door.ts';
import { inferenceService, SERVED_SERVICE } from './grpc-service.ts';
import type { Inferences } from './inference.ts';

/** One message is held in memory while it is read, and again as its rows; larger requests go over HTTP, which streams neither. */
const MESSAGE_BYTES_MAX = 64 * 2 ** 20;
/** What an answer may have; it is as large as HTTP's. */
const ANSWER_BYTES_MAX = 272 * 2 ** 20;
/** Calls of one connection at once. */
const STREAMS_MAX = 1000;
/** A connection that says nothing is asked after this time, and given up when it does not answer. */
const PING_MS = 60_000;
const PONG_MS = 20_000;

export type ListenOptions = { readonly host: string; readonly port: number; readonly reusePort: boolean };

export class GrpcServer {
  readonly #server: Server;
  readonly #injector: ConnectionInjector;
  readonly #sockets: SocketServer;

  constructor(room: Room, inferences: Inferences, connectionsMax: number) {
    const door = new GrpcDoor(room);
    this.#server = new Server({
      'grpc.max_receive_message_length': Math.min(MESSAGE_BYTES_MAX, room.settings.bodyBytesMax),
      'grpc.max_send_message_length': ANSWER_BYTES_MAX,
      'grpc.max_concurrent_streams': STREAMS_MAX,
      'grpc.keepalive_time_ms': PING_MS,
      'grpc.keepalive_timeout_ms': PONG_MS,
      'grpc.enable_channelz': 0,
      interceptors: [door.interceptor],
    });
    this.#server.addService(SERVED_SERVICE, inferenceService(room, inferences, door));
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#sockets = createServer({ noDelay: true }, (socket) => {
      // A connection that breaks is the session's matter, or nobody's.
      socket.on('error', () => undefined);
      this.#injector.injectConnection(socket);
    });
    this.#sockets.maxConnections = connectionsMax;
  }

  /** @returns the port */
  listen({ host, port, reusePort }: ListenOptions): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#sockets.once('error', reject);
      this.#sockets.listen({ host, port, reusePort, backlog: 2048 }, () => {
        this.#sockets.off('error', reject);
        const address = this.#sockets.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  /** No new connections and calls; resolves when those that run are answered, or after the grace. */
  async stop(graceMs: number): Promise<void> {
    this.#injector.drain(graceMs);
    if (this.#sockets.listening) {
      await new Promise<void>((resolve) => {
        this.#sockets.close(() => resolve());
      });
    }
    this.#server.forceShutdown();
  }
}
