/** POST /v1/embeddings, /v1/completions, /v1/chat/completions: a request is one call, which is waited for. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import { jsonToPayload, resultArrow, streamToColumns } from '../../../shared/arrow/index.ts';
import type { FunctionRecord } from '../../../shared/domain/function.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import type { Admission, ResultPart } from '../../../shared/store/ports/queue.ts';
import { callHeaders, timesHeaders } from '../../../shared/wire/header-schemas.ts';
import { rowFailure } from '../../../shared/wire/openai/openai-error.ts';
import * as shapes from '../../../shared/wire/openai/schemas.ts';
import {
  type Endpoint,
  parseTaskRequest,
  requestAnswer,
  requestColumns,
  rowField,
  type TaskRequest,
} from '../../../shared/wire/openai/task-request.ts';
import { headerOptions, idempotencyKey } from '../../calls/options.ts';
import { parseJsonObject, submissionDigest } from '../../calls/submission.ts';
import { callTraceparent, startCallSpan, type TracedAdmission } from '../../calls/tracing.ts';
import { modelFunction } from '../../registry/model-function.ts';
import { countAnswer, identityOf, type Room, type Routes } from '../room.ts';
import { answer, secured } from '../route-schema.ts';
import { expiredCall, responseWaiter, type WaitedCall, WaitedCalls, waitedDeadline } from '../waited-call.ts';
import { failures } from './openai-answer.ts';

/** 2,048 inputs of 8,192 tokens, and as much again, where the server's limit of JSON bodies is raised to it. */
const BODY_BYTES_MAX = 128 * 2 ** 20;

/** The protocol's word for a call. */
const WHAT = 'request';

type Route = {
  readonly url: Endpoint;
  readonly summary: string;
  readonly body: TSchema;
  readonly view: TSchema;
};

const ROUTES: readonly Route[] = [
  {
    ...{ url: '/v1/embeddings', summary: 'Vectors of texts or token lists' },
    ...{ body: shapes.embeddingRequest, view: shapes.embeddingList },
  },
  {
    ...{ url: '/v1/completions', summary: 'Texts that go on prompts' },
    ...{ body: shapes.completionRequest, view: shapes.completion },
  },
  {
    ...{ url: '/v1/chat/completions', summary: 'A text that answers messages' },
    ...{ body: shapes.chatRequest, view: shapes.chatCompletion },
  },
];

export const taskRoutes: Routes = (app, room) => {
  const calls = new WaitedCalls(room, WHAT);
  for (const { url, summary, body, view } of ROUTES) {
    const label = `POST ${url}`;
    app.post<{ Body: Buffer | undefined }>(
      url,
      {
        bodyLimit: Math.min(BODY_BYTES_MAX, room.settings.bodyBytesMax, room.settings.jsonBytesMax),
        config: { scope: 'call', rawBody: true, label, takes: callHeaders },
        // A validator before the parser would look at every token twice.
        validatorCompiler: () => () => true,
        schema: {
          ...{ tags: ['openai'], summary, security: secured, consumes: ['application/json'] },
          body: { content: { 'application/json': { schema: body } } },
          response: {
            200: answer('The answer.', view, timesHeaders),
            ...failures(404, 413, 415, 422, 429, 504, 507),
          },
        },
      },
      async (request, reply) => {
        if (room.state.isDraining) throw new SluiceError('shutting_down', 'The server is shutting down.');
        const asked = parseTaskRequest(url, parseJsonObject(request.body ?? Buffer.alloc(0)));
        const record = await modelFunction(room.catalogue, asked.asked.model);
        const text = await answerOf(room, calls, { asked, record, request, reply });
        countAnswer(label, 200);
        return reply.header('content-type', 'application/json; charset=utf-8').send(text);
      },
    );
  }
};

type Asking = {
  readonly asked: TaskRequest;
  readonly record: FunctionRecord;
  readonly request: FastifyRequest<{ Body: Buffer | undefined }>;
  readonly reply: FastifyReply;
};

const answerOf = async (room: Room, calls: WaitedCalls, asking: Asking): Promise<string> => {
  const { asked, record, reply } = asking;
  const { waitMs, ...traced } = admissionOf(room, asking);
  const call = await calls.run(record, traced, waitMs, responseWaiter(reply.raw));
  refuseFailed(asked, call.parts, () => expiredCall(WHAT, traced.admission, waitMs));
  const id = room.ids.encode(call.callId);
  reply.headers({ 'x-call-id': id, 'x-handler-ms': rounded(call.handlerMs) });
  if (call.queueMs !== null) reply.header('x-queue-ms', rounded(call.queueMs));
  return requestAnswer(asked, valuesOf(call), {
    id,
    createdSeconds: Math.floor(traced.admission.now / 1000),
  });
};

const rounded = (ms: number): string => String(Math.round(ms * 1000) / 1000);

const valuesOf = ({ parts, output }: WaitedCall): readonly unknown[] => {
  const chunks = [...resultArrow(parts, output)];
  return streamToColumns(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).result as unknown[];
};

const admissionOf = (
  { settings }: Room,
  { asked, record, request }: Asking,
): TracedAdmission & { readonly waitMs: number } => {
  const { headers, body } = request;
  const caller = identityOf(request);
  const options = headerOptions(headers);
  const columns = requestColumns(asked, record.current.spec);
  const { rows, bytes, schemaKey, payload } = jsonToPayload({ columns }, record.current.spec.inputs);
  const waitMs = Math.min(options.deadlineMs ?? settings.waitMaxMs, settings.waitMaxMs);
  const key = idempotencyKey(headers);
  const { user } = asked.asked;
  const span = startCallSpan(record.name, rows, headers);
  const now = Date.now();
  const admission: Admission = {
    ...{ now, functionName: record.name, versionId: record.current.id, apiKeyId: caller.id },
    ...{ lane: options.lane ?? caller.lane, priority: options.priority },
    deadlineAt: waitedDeadline(now, waitMs, key, options),
    ...{ rows, bytes, schemaKey, payload },
    idempotency: key === null ? null : { key, bodyDigest: submissionDigest(request.url, options, body!) },
    metadata: user === null ? options.metadata : { ...options.metadata, user },
    traceparent: callTraceparent(span, headers),
    watch: true,
  };
  return { admission, span, waitMs };
};

/** An answer has no place for an input that failed: the first one is the answer. */
const refuseFailed = (asked: TaskRequest, parts: readonly ResultPart[], expired: () => SluiceError): void => {
  const part = parts.find(({ state }) => state !== 'ok');
  if (part === undefined || part.state === 'ok') return;
  const field = rowField(asked, part.from);
  if (part.state === 'failed') throw rowFailure(part.error, field);
  if (part.state === 'expired') throw expired();
  throw new SluiceError('row_cancelled', 'The request was cancelled.', { field });
};
