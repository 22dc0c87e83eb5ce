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

/** Who may be asked about without a key, as over HTTP. Their messages are empty, and have places of their own: who has no key keeps nobody out. */
const OPEN = /\/(?:ServerLive|ServerReady|ServerMetadata)$/;
const OPEN_ARRIVING_MAX = 16;
const OPEN_ARRIVAL_MS = 10_000;

/** Messages on their way of one kind. */
class Places {
  readonly #max: number;
  readonly #arrivalMs: number;
  #taken = 0;

  constructor(max: number, arrivalMs: number) {
    this.#max = max;
    this.#arrivalMs = arrivalMs;
  }

  /** @returns what gives the place back; late: what is to be done with a message that does not come in time. @throws SluiceError `queue_full` */
  take(late: (error: SluiceError) => void): () => void {
    if (this.#taken >= this.#max)
      throw new SluiceError('queue_full', `${this.#max} messages are on their way already.`, {
        retry_after_seconds: 1,
      });
    this.#taken += 1;
    let isGiven = false;
    const give = (): void => {
      if (isGiven) return;
      isGiven = true;
      this.#taken -= 1;
      clearTimeout(timer);
    };
    const timer = setTimeout(() => {
      give();
      late(
        new SluiceError('request_timeout', `The message did not arrive within ${this.#arrivalMs / 1000} s.`),
      );
    }, this.#arrivalMs);
    timer.unref();
    return give;
  }
}

export class GrpcDoor {
  readonly #room: Room;
  readonly #identities = new WeakMap<Metadata, Identity>();
  readonly #places = new Places(ARRIVING_MAX, ARRIVAL_MS);
  readonly #openPlaces = new Places(OPEN_ARRIVING_MAX, OPEN_ARRIVAL_MS);

  constructor(room: Room) {
    this.#room = room;
  }

  /** Of a call that was let in. */
  identityOf(metadata: Metadata): Identity {
    return this.#identities.get(metadata)!;
  }

  readonly interceptor: ServerInterceptor = (method, call) => {
    let release = (): void => undefined;
    const refuse = (error: unknown): void => {
      release();
      call.sendStatus(this.#statusOf(error));
    };
    const listener: ServerListener = {
      onReceiveMetadata: (metadata, next) => {
        const isOpen = OPEN.test(method.path);
        try {
          // Before the key is looked for, so that a call which ends meanwhile has a place to give back.
          release = (isOpen ? this.#openPlaces : this.#places).take(refuse);
        } catch (error) {
          return refuse(error);
        }
        const entered = isOpen ? Promise.resolve() : this.#enter(call, metadata);
        entered.then(() => next(metadata), refuse);
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

  async #enter(call: ServerInterceptingCallInterface, metadata: Metadata): Promise<void> {
    const [authorization] = metadata.get('authorization').map(String);
    const headers = { host: call.getHost(), ...(authorization === undefined ? {} : { authorization }) };
    const identity = await this.#room.guard.identify(headers);
    checkScope(identity, 'call');
    this.#identities.set(metadata, identity);
  }

  #statusOf(error: unknown): GrpcStatus {
    const known = expectedError(error);
    if (known === null) this.#room.log.error({ err: error }, 'a gRPC call could not be let in');
    return grpcStatus(known ?? internalError('gRPC'));
  }
}
