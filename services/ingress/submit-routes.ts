/**
 * POST /v1/functions/{name}/calls: the hot path. Its answers are written without fastify's serialisation, and a one-row
 * call that is waited for costs one question to the store: its result travels with the event of its end.
 */
import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { type CallStatus, isFinished } from '../../shared/domain/call.ts';
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { metrics } from '../../shared/runtime/metrics.ts';
import type { Admission, Admitted, CallEvent } from '../../shared/store/ports/queue.ts';
import { ARROW_STREAM, type CallJson } from '../../shared/wire/api.ts';
import { callHeaders, LOCATION, waitHeaders } from '../../shared/wire/header-schemas.ts';
import { presentCall } from '../../shared/wire/present.ts';
import * as wire from '../../shared/wire/schemas.ts';
import { countAdmitted } from '../calls/admission-counts.ts';
import { preferredWaitMs } from '../calls/prefer.ts';
import { admitSubmission, compileSubmission } from '../calls/submission.ts';
import { traceAdmission } from '../calls/tracing.ts';
import { type ResultForm, resultForm } from '../results/negotiation.ts';
import { writeAnswer } from './answer.ts';
import { expectedError, internalError, problemOf, writeProblem } from './problem.ts';
import { countAnswer, identityOf, type Room, type Routes } from './room.ts';
import { answer, problems, resultAnswer, secured, WRITE_STATUSES } from './route-schema.ts';

const LABEL = 'POST /v1/functions/{name}/calls';
const NO_COUNTS = { ok: 0, failed: 0, cancelled: 0, expired: 0 };

/** What is told of a call whose rows nobody needs any more, for as long as it is waited for. */
type Kept = Omit<Admission, 'schemaKey' | 'payload' | 'idempotency' | 'watch'>;

export const submitRoutes: Routes = (app, room) => {
  app.route<{ Params: { name: string }; Body: Buffer | undefined }>({
    method: 'POST',
    url: '/v1/functions/:name/calls',
    config: { scope: 'call', rawBody: true, label: LABEL, takes: { ...callHeaders, ...waitHeaders } },
    schema: {
      tags: ['calls'],
      summary: 'Submit rows',
      security: secured,
      consumes: ['application/json', ARROW_STREAM],
      params: wire.nameParams,
      body: {
        content: {
          'application/json': { schema: wire.submission },
          [ARROW_STREAM]: { schema: Type.String({ format: 'binary' }) },
        },
      },
      querystring: wire.noQuery,
      response: {
        200: {
          ...resultAnswer,
          headers: { ...resultAnswer.headers, 'preference-applied': Type.Literal('wait') },
        },
        202: answer('Accepted: on the medium that `durability` names.', wire.call, LOCATION),
        ...problems(404, 406, ...WRITE_STATUSES, 410, 422),
      },
    },
    // The body is checked by shared/arrow; a validator before it would look at every value twice.
    validatorCompiler: () => () => true,
    handler: (request, reply) => {
      const { name } = request.params;
      const record = room.catalogue.known(name);
      if (record !== undefined) submit(room, record, request, reply);
      else
        room.catalogue
          .find(name)
          .then((found) => submit(room, found, request, reply))
          .catch((error: unknown) => reply.send(error as Error));
    },
  });
};

const submit = (
  room: Room,
  record: FunctionRecord,
  request: FastifyRequest<{ Body: Buffer | undefined }>,
  reply: FastifyReply,
): void => {
  if (room.state.isDraining) throw new SluiceError('shutting_down', 'The server is shutting down.');
  const { headers } = request;
  if (hasQuery(request.url)) refuseQuery(request.url);
  const waitMs = preferredWaitMs(headers.prefer, room.settings.waitMaxMs);
  const form = waitMs > 0 ? resultForm(headers.accept) : 'json';
  const isArrow = headers['content-type']?.toLowerCase().startsWith(ARROW_STREAM) === true;
  if (request.body === undefined) throw new SluiceError('unsupported_media_type', NO_BODY);
  const caller = identityOf(request);
  const compiled = compileSubmission(
    record,
    isArrow ? 'arrow' : 'json',
    request.body,
    headers,
    caller,
    waitMs > 0,
  );
  if (waitMs > 0) room.waits.check();
  reply.hijack();
  const submission = new Submission(room, record, keptOf(compiled.admission), reply.raw, request.id);
  const { held } = request;
  traceAdmission(compiled.span, admitSubmission(room.store.queue, compiled), room.ids)
    .then((admitted) => {
      held?.free();
      return submission.admitted(admitted, waitMs, form);
    })
    .catch((error: unknown) => submission.fail(error));
};

const keptOf = (admission: Admission): Kept => ({
  now: admission.now,
  functionName: admission.functionName,
  versionId: admission.versionId,
  apiKeyId: admission.apiKeyId,
  lane: admission.lane,
  priority: admission.priority,
  deadlineAt: admission.deadlineAt,
  rows: admission.rows,
  bytes: admission.bytes,
  metadata: admission.metadata,
  traceparent: admission.traceparent,
});

const NO_BODY = 'The request has no body; send application/json or an Arrow stream.';
const hasQuery = (url: string): boolean => url.includes('?');
const refuseQuery = (url: string): void => {
  const name = [...new URLSearchParams(url.slice(url.indexOf('?') + 1)).keys()][0];
  if (name === undefined) return;
  throw new SluiceError('invalid_request', `${name} is no query parameter of this route.`, { field: name });
};

/** One request from its admission to its answer. */
class Submission {
  readonly #room: Room;
  readonly #record: FunctionRecord;
  readonly #admission: Kept;
  readonly #response: ServerResponse;
  readonly #requestId: string;

  constructor(
    room: Room,
    record: FunctionRecord,
    admission: Kept,
    response: ServerResponse,
    requestId: string,
  ) {
    this.#room = room;
    this.#record = record;
    this.#admission = admission;
    this.#response = response;
    this.#requestId = requestId;
  }

  admitted(admitted: Admitted, waitMs: number, form: ResultForm): void | Promise<void> {
    countAdmitted(this.#admission, admitted);
    if (waitMs === 0) return this.#accepted(admitted);
    if (this.#response.destroyed) return this.#forget(admitted);
    if (isFinished(admitted.status)) {
      this.#forget(admitted);
      return this.#stored(admitted, form);
    }
    const wait = this.#room.waits.wait(admitted.callId, waitMs, (end) => {
      this.#response.off('close', onClose);
      if (end === null) this.#guarded(this.#accepted(admitted, true));
      else if (end instanceof SluiceError) this.fail(end);
      else this.#guarded(this.#finished(end, admitted, form));
    });
    const onClose = (): void => {
      wait.cancel();
    };
    this.#response.on('close', onClose);
  }

  fail(error: unknown): void {
    const known = expectedError(error) ?? internalError(this.#requestId);
    if (known.code === 'internal')
      this.#room.log.error({ err: error, request: this.#requestId }, 'a submission broke');
    metrics.refusals.inc({ code: known.code });
    const problem = problemOf(known);
    countAnswer(LABEL, problem.status);
    writeProblem(this.#response, problem, this.#requestId);
  }

  /** The store watches the call for this thread since its admission; nobody waits for it any more. */
  #forget({ callId }: Admitted): void {
    this.#room.store.queue.watch({ kind: 'call', callId }, () => undefined)();
  }

  #guarded(work: void | Promise<void>): void {
    if (work instanceof Promise) work.catch((error: unknown) => this.fail(error));
  }

  /** The version that ran is the one of the admission, unless the call is an older one of the same key. */
  #finished(event: CallEvent, admitted: Admitted, form: ResultForm): void | Promise<void> {
    if (admitted.attached) return this.#stored(admitted, form);
    const found = this.#room.results.ofEvent(event, this.#record.current.spec.output, form);
    if (found === null) return this.#stored(admitted, form);
    countAnswer(LABEL, 200);
    return writeAnswer(this.#response, 200, found, this.#requestId, WAITED);
  }

  async #stored({ callId }: Admitted, form: ResultForm): Promise<void> {
    const found = await this.#room.results.read(callId, form, false, () => true);
    countAnswer(LABEL, 200);
    await writeAnswer(this.#response, 200, found, this.#requestId, WAITED);
  }

  /** @param wasWaited what was told at its admission may be over by now */
  async #accepted(admitted: Admitted, wasWaited = false): Promise<void> {
    this.#room.waits.checkKept();
    const view = await this.#view(admitted, wasWaited);
    countAnswer(LABEL, 202);
    const headers = [
      'content-type',
      'application/json; charset=utf-8',
      'location',
      `/v1/calls/${view.call_id}`,
    ];
    await writeAnswer(this.#response, 202, { headers, body: JSON.stringify(view) }, this.#requestId);
  }

  /** At a drain, or where the store does not answer, nobody waits for more than what is known. */
  async #view(admitted: Admitted, wasWaited: boolean): Promise<CallJson> {
    if (admitted.attached || admitted.status !== 'pending') return this.#attached(admitted);
    if (!wasWaited || this.#room.state.isDraining) return this.#fresh(admitted);
    return this.#attached(admitted).catch((error: unknown) => {
      if (error instanceof SluiceError && error.code === 'data_lost') throw error;
      return this.#fresh(admitted);
    });
  }

  async #attached({ callId, attached }: Admitted): Promise<CallJson> {
    const call = await this.#room.store.queue.call(callId);
    if (call === 'gone' || call === undefined) {
      throw new SluiceError('call_gone', `Call ${this.#room.ids.encode(callId)} is past its retention.`);
    }
    const view = presentCall(call, this.#room.ids, this.#room.store.queue.durability);
    return attached ? { ...view, attached: true } : view;
  }

  /** A call that was admitted just now, without asking the store what it was just told. */
  #fresh({ callId, status }: { readonly callId: number; readonly status: CallStatus }): CallJson {
    const {
      now,
      rows,
      bytes,
      lane,
      priority,
      deadlineAt,
      metadata,
      traceparent,
      functionName,
      versionId,
      apiKeyId,
    } = this.#admission;
    const call = {
      ...{ id: callId, functionName, versionId, versionDigest: this.#record.current.digest, apiKeyId },
      ...{ lane, priority, rows, bytes, status, counts: NO_COUNTS, arrivedAt: now, startedAt: null },
      ...{
        finishedAt: null,
        deadlineAt,
        expiresAt: null,
        metadata,
        traceparent,
        queueMs: null,
        handlerMs: 0,
      },
    };
    return presentCall(call, this.#room.ids, this.#room.store.queue.durability);
  }
}

const WAITED = ['preference-applied', 'wait'];
