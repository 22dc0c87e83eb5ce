/** GET /v1/calls/{id}/events: a call's progress as server-sent events (WHATWG HTML, section 9.2). Each event is the whole call. */
import type { ServerResponse } from 'node:http';
import { Type } from 'typebox';
import { type Call, isFinished } from '../../shared/domain/call.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import * as wire from '../../shared/wire/schemas.ts';
import type { CallWait } from '../results/call-waits.ts';
import { ownCall, viewOf } from './call-routes.ts';
import type { Identity } from './guard.ts';
import { problemOf } from './problem.ts';
import { countAnswer, identityOf, type Room, type Routes } from './room.ts';
import { problems, secured } from './route-schema.ts';

const LABEL = 'GET /v1/calls/{id}/events';
/** Progress is told so often at most; proxies close a stream that is silent for a minute. */
const PROGRESS_MS = 100;
const HEARTBEAT_MS = 15_000;

/** In OpenAPI 3.1 the schema of an event stream is that of each event. */
const event = Type.Object({
  event: Type.Enum(['progress', 'finished', 'error']),
  data: Type.String({ contentMediaType: 'application/json' }),
});

export const eventRoutes: Routes = (app, room) => {
  app.get<{ Params: { id: string } }>(
    '/v1/calls/:id/events',
    {
      exposeHeadRoute: false,
      config: { scope: 'call', label: LABEL },
      schema: {
        tags: ['calls'],
        summary: 'Progress as server-sent events',
        security: secured,
        params: wire.idParams,
        querystring: wire.noQuery,
        response: {
          200: {
            description:
              'Events `progress`, at the end `finished`; data is the call. `error`: a problem; nothing more comes.',
            content: { 'text/event-stream': { schema: event } },
          },
          ...problems(404, 410, 429),
        },
      },
    },
    async (request, reply) => {
      const identity = identityOf(request);
      const call = await ownCall(room, request.params.id, identity);
      room.waits.check();
      countAnswer(LABEL, 200);
      reply.hijack();
      reply.raw.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
        'x-request-id': request.id,
      });
      new EventStream(room, request.params.id, identity, reply.raw).start(call);
    },
  );
};

const isLoss = (why: unknown): why is SluiceError => why instanceof SluiceError && why.code === 'data_lost';

class EventStream {
  readonly #room: Room;
  readonly #id: string;
  readonly #identity: Identity;
  readonly #response: ServerResponse;
  #wait: CallWait | null = null;
  #heartbeat: NodeJS.Timeout | null = null;
  #next: NodeJS.Timeout | null = null;
  #isOver = false;

  constructor(room: Room, id: string, identity: Identity, response: ServerResponse) {
    this.#room = room;
    this.#id = id;
    this.#identity = identity;
    this.#response = response;
  }

  start(call: Call): void {
    if (this.#response.destroyed || this.#write(call)) return;
    this.#response.on('close', () => this.#end());
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    const { waits } = this.#room;
    this.#wait = waits.follow(
      call.id,
      (event) => this.#soon(isFinished(event.status)),
      (end) => this.#cut(end),
    );
  }

  /** Events come as often as rows settle; one look at the call serves all that came meanwhile. */
  #soon(isLast: boolean): void {
    if (this.#isOver) return;
    if (isLast && this.#next !== null) clearTimeout(this.#next);
    else if (this.#next !== null) return;
    this.#next = setTimeout(() => this.#look(), isLast ? 0 : PROGRESS_MS);
  }

  #look(): void {
    ownCall(this.#room, this.#id, this.#identity)
      .then((call) => {
        this.#next = null;
        if (!this.#isOver) this.#write(call);
      })
      .catch((error: unknown) => this.#cut(error));
  }

  /** True when that was the last event. A reader that is behind gets the next state instead of this one. */
  #write(call: Call): boolean {
    const isLast = isFinished(call.status);
    if (!isLast && this.#response.writableNeedDrain) return false;
    const name = isLast ? 'finished' : 'progress';
    this.#response.write(`event: ${name}\ndata: ${JSON.stringify(viewOf(this.#room, call))}\n\n`);
    if (isLast) this.#end();
    return isLast;
  }

  /**
   * A drain, a call that is gone, a store that closes: the reader asks again. When the data is lost, or that of the call,
   * asking again would be waiting for ever: it is told.
   */
  #cut(why: unknown): void {
    const lost = this.#room.waits.lost ?? (isLoss(why) ? why : null);
    if (!this.#isOver && lost !== null)
      this.#response.write(`event: error\ndata: ${problemOf(lost).body}\n\n`);
    this.#end();
  }

  #beat(): void {
    if (!this.#response.writableNeedDrain) this.#response.write(': alive\n\n');
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#wait?.cancel();
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    if (this.#next !== null) clearTimeout(this.#next);
    this.#response.end();
  }
}
