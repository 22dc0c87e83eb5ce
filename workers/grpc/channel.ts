/** One connection to one handler server: its calls, and whether it serves. */
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  type Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { type CallFunctionRequest, type CallFunctionResponse, HEALTH, REMOTE_CALL } from './service.ts';

/** What the reference worker takes, each way. */
export const MESSAGE_BYTES_MAX = 32 * 2 ** 20;
/** Of an answer, on its way and not yet read: more than most answers have, and little beside a replica. */
const WINDOW_BYTES = 4 * 2 ** 20;
/** Between two looks at a server that does not serve yet; one that has just opened its port is found in this time. */
const LOOK_AGAIN_MS = 100;
/** One look at most: a port that accepts and says nothing is no server. */
const LOOK_MS_MAX = 5000;

const OPTIONS: ChannelOptions = {
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  // Replicas are on this machine or in this cluster, whatever proxy the environment names for the world outside.
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  // The one retry authority is the store's.
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
  // With the 64 KiB of HTTP/2 an answer of megabytes waits for a permission every 64 KiB.
  'grpc-node.flow_control_window': WINDOW_BYTES,
  'grpc.initial_reconnect_backoff_ms': LOOK_AGAIN_MS,
  'grpc.max_reconnect_backoff_ms': 1000,
};

const CALL_FUNCTION = REMOTE_CALL.CallFunction!;
const CHECK = HEALTH.Check!;

export type CallStream = ClientDuplexStream<CallFunctionRequest, CallFunctionResponse>;

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });

export class Channel {
  readonly #client: Client;

  /** `address` as `host:port`; plain text. */
  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure(), OPTIONS);
  }

  call(metadata: Metadata): CallStream {
    return this.#client.makeBidiStreamRequest(
      CALL_FUNCTION.path,
      CALL_FUNCTION.requestSerialize as (request: CallFunctionRequest) => Buffer,
      CALL_FUNCTION.responseDeserialize as (bytes: Buffer) => CallFunctionResponse,
      metadata,
    );
  }

  /**
   * Resolves when the server serves: its health service says so, or, where it has none, its port is open.
   * @throws Error with the last refusal when it does not within `limitMs`, or when the signal gives it up
   */
  async serving(limitMs: number, signal: AbortSignal): Promise<void> {
    const end = performance.now() + limitMs;
    let refusal = 'nothing was asked';
    while (!signal.aborted) {
      const found = await this.#look(Math.min(LOOK_MS_MAX, Math.max(1, end - performance.now())));
      if (found === null) return;
      refusal = found;
      if (performance.now() >= end) break;
      await pause(LOOK_AGAIN_MS, signal);
    }
    throw new Error(`its gRPC server was not ready after ${Math.round(limitMs / 1000)} s (${refusal})`);
  }

  /** null: it serves; else what it said. */
  #look(limitMs: number): Promise<string | null> {
    return new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        CHECK.path,
        CHECK.requestSerialize as (request: object) => Buffer,
        CHECK.responseDeserialize as (bytes: Buffer) => { readonly status?: string },
        { service: '' },
        { deadline: Date.now() + limitMs },
        (error: ServiceError | null, answer) => {
          if (error === null)
            resolve(answer?.status === 'SERVING' ? null : `its health is ${answer?.status}`);
          // A server that answers at all has its port open, and NOT_FOUND is one that knows no overall health.
          else resolve(HAS_NO_HEALTH.has(error.code) ? null : error.details || error.message);
        },
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}

const HAS_NO_HEALTH: ReadonlySet<number> = new Set([status.UNIMPLEMENTED, status.NOT_FOUND]);
