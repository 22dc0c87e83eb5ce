/** What runs in a pod: a real gRPC server on a loopback address of its own, whose calls a test may hold. */
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { rowsToStream, streamToColumns } from '../../shared/arrow/index.ts';
import {
  type CallFunctionRequest,
  type CallFunctionResponse,
  REMOTE_CALL,
} from '../../workers/grpc/service.ts';

export class PodServer {
  readonly ip: string;
  readonly port: number;
  readonly #server: Server;
  /** Answered when the test lets go; null: at once. */
  #gate: { readonly arrived: PromiseWithResolvers<void>; readonly open: PromiseWithResolvers<void> } | null =
    null;

  private constructor(ip: string, port: number, server: Server) {
    this.ip = ip;
    this.port = port;
    this.#server = server;
  }

  static async start(ip: string, port: number): Promise<PodServer> {
    const server = new Server();
    const pod = new PodServer(ip, port, server);
    server.addService(REMOTE_CALL, {
      CallFunction: (call: ServerDuplexStream<CallFunctionRequest, CallFunctionResponse>) => {
        call.on('data', ({ feather_stream }: CallFunctionRequest) => void pod.#answer(call, feather_stream));
        call.on('error', () => undefined);
      },
    });
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`${ip}:${port}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
    return pod;
  }

  /** From now on calls wait; `arrived` resolves with the first. */
  hold(): { readonly arrived: Promise<void>; readonly letGo: () => void } {
    const gate = { arrived: Promise.withResolvers<void>(), open: Promise.withResolvers<void>() };
    this.#gate = gate;
    return { arrived: gate.arrived.promise, letGo: () => gate.open.resolve() };
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  async #answer(
    call: ServerDuplexStream<CallFunctionRequest, CallFunctionResponse>,
    stream: Uint8Array,
  ): Promise<void> {
    const [values] = Object.values(streamToColumns(stream));
    if (this.#gate !== null) {
      this.#gate.arrived.resolve();
      await this.#gate.open.promise;
    }
    // Which pod it was, for whoever wants to know.
    const result = [...(values as Iterable<unknown>)].map((value) => `${value} at ${this.ip}`);
    call.write({ feather_stream: rowsToStream({ result }) });
    call.end();
  }
}
