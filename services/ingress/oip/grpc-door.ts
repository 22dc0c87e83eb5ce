/**
 * What a gRPC call passes before its message is read: the key, the scope, room for one more message. A message that does not
 * come in time gives its place back.
 */
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type ServerListener,
} from '@grpc/grpc-js';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { checkScope, type Identity } from '../guard.ts';
import { expectedError, internalError } from '../problem.ts';
import type { Room } from '../room.ts';
import { type GrpcStatus, grpcStatus } from './grpc-error.ts';

/** Messages that a thread receives at once; each may grow to the limit of a message before it is whole. */
const ARRIVING_MAX = 64;
/** A message as a whole must be there in this time, as a request over HTTP must. */
const ARRIVAL_MS = 300_000;

/** Who may be asked about without a key, as over HTTP. */
const OPEN = /\/(?:ServerLive|ServerReady|ServerMetadata)$/;

export class GrpcDoor {
  readonly #room: Room;
  readonly #identities = new WeakMap<Metadata, Identity>();
  #arriving = 0;

  constructor(room: Room) {
    this.#room = room;
  }

  /** Of a call that was let in. */
  identityOf(metadata: Metadata): Identity {
    return this.#identities.get(metadata)!;
  }

  readonly interceptor: ServerInterceptor = (method, call) => {
    let release = (): void => undefined;
    const listener: ServerListener = {
      onReceiveMetadata: (metadata, next) => {
        this.#enter(method.path, call, metadata).then(
          () => {
            release = this.#arrive(call);
            next(metadata);
          },
          (error: unknown) => call.sendStatus(this.#statusOf(error)),
        );
      },
      onReceiveMessage: (message, next) => {
        release();
        next(message);
      },
      onCancel: () => release(),
    };
    return new ServerInterceptingCall(call, {
      start: (next) => next(listener),
      sendStatus: (status, next) => {
        release();
        next(status);
      },
    });
  };

  async #enter(path: string, call: ServerInterceptingCallInterface, metadata: Metadata): Promise<void> {
    if (this.#arriving >= ARRIVING_MAX)
      throw new SluiceError('queue_full', `${ARRIVING_MAX} messages are on their way already.`, {
        retry_after_seconds: 1,
      });
    if (OPEN.test(path)) return;
    const [authorization] = metadata.get('authorization').map(String);
    const headers = { host: call.getHost(), ...(authorization === undefined ? {} : { authorization }) };
    const identity = await this.#room.guard.identify(headers);
    checkScope(identity, 'call');
    this.#identities.set(metadata, identity);
  }

  #arrive(call: ServerInterceptingCallInterface): () => void {
    this.#arriving += 1;
    let isHere = false;
    const release = (): void => {
      if (isHere) return;
      isHere = true;
      this.#arriving -= 1;
      clearTimeout(timer);
    };
    const timer = setTimeout(() => {
      release();
      const late = `The message did not arrive within ${ARRIVAL_MS / 1000} s.`;
      call.sendStatus(grpcStatus(new SluiceError('request_timeout', late)));
    }, ARRIVAL_MS);
    timer.unref();
    return release;
  }

  #statusOf(error: unknown): GrpcStatus {
    const known = expectedError(error);
    if (known === null) this.#room.log.error({ err: error }, 'a gRPC call could not be let in');
    return grpcStatus(known ?? internalError('gRPC'));
  }
}
