/** The methods of `inference.GRPCInferenceService`. */
import { fileURLToPath } from 'node:url';
import {
  Metadata,
  type ServerUnaryCall,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import { expectedError, internalError } from '../problem.ts';
import { countAnswer, type Room } from '../room.ts';
import { CallerGone, type Waiter } from '../waited-call.ts';
import type { GrpcDoor } from './grpc-door.ts';
import { type GrpcStatus, grpcStatus } from './grpc-error.ts';
import { grpcAnswer, grpcInference, type ModelInferRequest, type ModelQuestion } from './grpc-messages.ts';
import type { Inferences } from './inference.ts';
import { checkParts } from './message-parts.ts';
import {
  currentOf,
  EXTENSIONS,
  modelIndex,
  modelMetadata,
  modelOf,
  versionName,
  versionOf,
  whyNotReady,
} from './served-model.ts';

const PROTO = fileURLToPath(new URL('../../../shared/wire/proto/open-inference.proto', import.meta.url));

export const INFERENCE_SERVICE = loadSync(PROTO, { keepCase: true, longs: String, defaults: true })[
  'inference.GRPCInferenceService'
] as ServiceDefinition;

/** What a message is that is not read: told in its answer, since what a reader throws is for clients a fault of ours. */
class Unread {
  readonly error: SluiceError;

  constructor(error: unknown) {
    const text = `The message is no ModelInferRequest: ${(error as Error).message}`;
    this.error = error instanceof SluiceError ? error : new SluiceError('invalid_request', text);
  }
}

const inferMethod = INFERENCE_SERVICE.ModelInfer!;
/** As this server reads it. */
export const SERVED_SERVICE: ServiceDefinition = {
  ...INFERENCE_SERVICE,
  ModelInfer: {
    ...inferMethod,
    requestDeserialize: (bytes) => {
      try {
        checkParts(bytes);
        return inferMethod.requestDeserialize(bytes);
      } catch (error) {
        return new Unread(error);
      }
    },
  },
};

type Answer = { readonly message: object; readonly metadata?: Metadata };
type Call = ServerUnaryCall<unknown, object>;
type Done = (error: Partial<GrpcStatus> | null, message?: object) => void;
type Method = (call: Call) => Promise<Answer>;

export const inferenceService = (
  room: Room,
  inferences: Inferences,
  door: GrpcDoor,
): UntypedServiceImplementation => {
  const isTaking = (): boolean => !(room.state.isLeaving || room.state.isDraining);
  const methods: Readonly<Record<string, Method>> = {
    ServerLive: async () => ({ message: { live: true } }),
    ServerReady: async () => {
      if (isTaking()) await room.store.retention.usage();
      return { message: { ready: isTaking() } };
    },
    ServerMetadata: async () => ({
      message: { name: 'sluice', version: room.version, extensions: EXTENSIONS },
    }),
    ModelReady: async ({ request }) => {
      const { name, version } = request as ModelQuestion;
      const record = await modelOf(room, name);
      return { message: { ready: (await whyNotReady(room, record, versionOf(record, version))) === null } };
    },
    ModelMetadata: async ({ request }) => {
      const { name, version } = request as ModelQuestion;
      const record = await modelOf(room, name);
      return { message: modelMetadata(name, record, versionOf(record, version)) };
    },
    RepositoryIndex: async ({ request }) => ({
      message: { models: await modelIndex(room, (request as { ready: boolean }).ready) },
    }),
    ModelInfer: (call) => infer(room, inferences, door, call),
  };
  return Object.fromEntries(
    Object.entries(methods).map(([name, method]) => [
      name,
      (call: Call, done: Done) => answered(room, name, method, call, done),
    ]),
  ) as unknown as UntypedServiceImplementation;
};

/** Answers of gRPC are counted with those of HTTP, under the status that each would have there. */
const answered = (room: Room, name: string, method: Method, call: Call, done: Done): void => {
  const label = `gRPC ${name}`;
  method(call).then(
    ({ message, metadata }) => {
      countAnswer(label, 200);
      if (metadata !== undefined && !call.cancelled) call.sendMetadata(metadata);
      done(null, message);
    },
    (error: unknown) => {
      if (error instanceof CallerGone) {
        done({ code: status.CANCELLED, details: 'The caller has gone.' });
        return;
      }
      const known = expectedError(error) ?? internalError('gRPC');
      if (known.code === 'internal') room.log.error({ err: error, method: name }, 'a gRPC call broke');
      if (name === 'ModelInfer') metrics.refusals.inc({ code: known.code });
      countAnswer(label, known.status);
      done(grpcStatus(known));
    },
  );
};

const waiterOf = (call: Call): Waiter => ({
  isGone: () => call.cancelled,
  onGone: (listener) => {
    call.on('cancelled', listener);
    return () => call.off('cancelled', listener);
  },
});

/** Milliseconds that the client's own deadline leaves; null: it has none. */
const leftMs = (call: Call): number | null => {
  const deadline = Number(call.getDeadline());
  return Number.isFinite(deadline) ? Math.max(1, deadline - Date.now()) : null;
};

const infer = async (room: Room, inferences: Inferences, door: GrpcDoor, call: Call): Promise<Answer> => {
  if (call.request instanceof Unread) throw call.request.error;
  const request = call.request as ModelInferRequest;
  const record = await modelOf(room, request.model_name);
  const current = currentOf(record, request.model_version);
  const { id, timeoutMs, tensors, wanted, isRaw } = grpcInference(request);
  const times = [timeoutMs, leftMs(call)].filter((time) => time !== null);
  const headers = Object.fromEntries(
    Object.entries(call.metadata.getMap()).map(([name, value]) => [name, String(value)]),
  );
  const found = await inferences.infer(
    {
      ...{ record, tensors, wanted, headers },
      timeoutMs: times.length === 0 ? null : Math.min(...times),
      caller: door.identityOf(call.metadata),
    },
    waiterOf(call),
  );
  const metadata = new Metadata();
  metadata.set('x-call-id', found.callId);
  metadata.set('x-handler-ms', String(Math.round(found.handlerMs * 1000) / 1000));
  if (found.queueMs !== null) metadata.set('x-queue-ms', String(Math.round(found.queueMs * 1000) / 1000));
  const head = { model: request.model_name, version: versionName(current), id };
  return { message: grpcAnswer(head, found.tensors, isRaw), metadata };
};
