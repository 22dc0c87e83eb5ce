/**
 * Results in row order, as JSON or Arrow: small ones as one body, others page by page, so that memory holds two pages of
 * the result and no more, however slow its reader is.
 */
import { openStream, resultArrow, resultJson } from '../../shared/arrow/index.ts';
import { isFinished, type RowCounts } from '../../shared/domain/call.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { CallEvent, QueueStore, ResultPage, ResultPart } from '../../shared/store/ports/queue.ts';
import { ARROW_STREAM } from '../../shared/wire/api.ts';
import type { CallIds } from '../../shared/wire/call-id.ts';
import type { Catalogue } from '../registry/catalogue.ts';
import type { ResultForm } from './negotiation.ts';
import { OutputCache } from './output-cache.ts';

export type Output = FunctionSpec['output'];
export type Chunks = AsyncGenerator<string | Uint8Array, void, undefined>;
/** `headers`: names and values in turn, as `writeHead` takes them. `body`: whole, whole in pieces, or as it comes. */
export type ResultAnswer = {
  readonly headers: readonly string[];
  readonly body: string | readonly Uint8Array[] | Chunks;
};

/** Output bytes that are read at once for a result. */
const PAGE_BYTES = 4 * 2 ** 20;
/** Output bytes of a piece of JSON text: text is up to some five times as long. */
const PIECE_BYTES = 2 ** 20;

type Head = {
  readonly callId: number;
  readonly status: string;
  readonly rows: number;
  readonly counts: RowCounts;
  readonly queueMs: number | null;
  readonly handlerMs: number;
};

type Pages = { readonly first: ResultPage; readonly output: Output };

const rounded = (ms: number): string => String(Math.round(ms * 1000) / 1000);

/** Splits parts so that a piece's values stay near `PIECE_BYTES`. */
function* pieces(parts: readonly ResultPart[]): Generator<readonly ResultPart[]> {
  for (const part of parts) {
    let rowBytes = 4;
    if (part.state === 'ok') rowBytes += part.output.bytes.byteLength / openStream(part.output.bytes).rows;
    const step = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
    for (let at = 0; at < part.count; at += step) {
      const run = { from: part.from + at, count: Math.min(step, part.count - at) };
      yield [part.state === 'ok' ? { ...part, ...run, outputRow: part.outputRow + at } : { ...part, ...run }];
    }
  }
}

export class CallResults {
  readonly #queue: QueueStore;
  readonly #catalogue: Catalogue;
  readonly #ids: CallIds;
  readonly #outputs = new OutputCache();

  constructor(queue: QueueStore, catalogue: Catalogue, ids: CallIds) {
    this.#queue = queue;
    this.#catalogue = catalogue;
    this.#ids = ids;
  }

  /** The result that a finished call's event carries, without another question to the store; null when it carries none. */
  ofEvent(event: CallEvent, output: Output, form: ResultForm): ResultAnswer | null {
    if (event.parts === null) return null;
    const parts = this.#outputs.shared(event.parts);
    return form === 'json' ? this.#json(event, parts, output) : this.#arrow(event, parts, output);
  }

  /**
   * The first page of a call that the caller may read, else 404; an unfinished call is 409 unless `partial`.
   * @throws SluiceError `call_not_found`, `call_gone`, `result_not_ready`
   */
  async read(callId: number, form: ResultForm, partial: boolean, mayRead: (apiKeyId: number) => boolean) {
    const id = this.#ids.encode(callId);
    const first = await this.#page(callId, 0);
    if (!mayRead(first.call.apiKeyId)) throw new SluiceError('call_not_found', `There is no call ${id}.`);
    if (!partial && !isFinished(first.call.status)) {
      throw new SluiceError('result_not_ready', `Call ${id} is ${first.call.status}.`);
    }
    const version = await this.#catalogue.version(first.call.functionName, first.call.versionId);
    return this.#answer({ first, output: version?.spec.output ?? declaredOutput(first.parts) }, form);
  }

  #answer(pages: Pages, form: ResultForm): ResultAnswer {
    const { first, output } = pages;
    const head: Head = { ...first.call, callId: first.call.id };
    const bytes = first.parts.reduce((sum, p) => sum + (p.state === 'ok' ? p.output.bytes.byteLength : 0), 0);
    if (first.next === null && bytes <= PIECE_BYTES) {
      const parts = this.#outputs.shared(first.parts);
      return form === 'json' ? this.#json(head, parts, output) : this.#arrow(head, parts, output);
    }
    return {
      headers: this.#headers(head, form),
      body: form === 'json' ? this.#jsonChunks(head, pages) : this.#arrowChunks(head, pages),
    };
  }

  #headers(head: Head, form: ResultForm): string[] {
    const headers = [
      'content-type',
      form === 'json' ? 'application/json; charset=utf-8' : ARROW_STREAM,
      'x-call-id',
      this.#ids.encode(head.callId),
      'x-call-status',
      head.status,
      'x-rows',
      String(head.rows),
      'x-rows-failed',
      String(head.rows - head.counts.ok),
      'x-handler-ms',
      rounded(head.handlerMs),
    ];
    if (head.queueMs !== null) headers.push('x-queue-ms', rounded(head.queueMs));
    return headers;
  }

  #jsonHead({ callId, status, rows, counts }: Head): string {
    const { ok, failed, cancelled, expired } = counts;
    const unfinished = rows - ok - failed - cancelled - expired;
    return (
      `{"call_id":"${this.#ids.encode(callId)}","status":"${status}","rows":${rows},"counts":{"ok":${ok},` +
      `"failed":${failed},"cancelled":${cancelled},"expired":${expired},"unfinished":${unfinished}},"result":[`
    );
  }

  #json(head: Head, parts: readonly ResultPart[], output: Output): ResultAnswer {
    const { values, errors } = resultJson(parts, output);
    const tail = errors.length === 0 ? '],"errors":[]}' : `],"errors":${JSON.stringify(errors)}}`;
    return { headers: this.#headers(head, 'json'), body: this.#jsonHead(head) + values + tail };
  }

  #arrow(head: Head, parts: readonly ResultPart[], output: Output): ResultAnswer {
    const chunks = [...resultArrow(parts, output, { errors: head.counts.ok < head.rows })];
    return { headers: this.#headers(head, 'arrow'), body: chunks };
  }

  async *#jsonChunks(head: Head, pages: Pages): Chunks {
    let separator = '';
    yield this.#jsonHead(head);
    for await (const page of this.#pages(head.callId, pages.first)) {
      for (const piece of pieces(page.parts)) {
        yield separator + resultJson(piece, pages.output).values;
        separator = ',';
      }
    }
    yield '],"errors":[';
    // Errors come last: a second pass over the pages holds no more of them than a page has.
    if (head.counts.ok < head.rows) yield* this.#errorChunks(head.callId, pages);
    yield ']}';
  }

  async *#errorChunks(callId: number, { first, output }: Pages): Chunks {
    let separator = '';
    for await (const page of this.#pages(callId, first)) {
      const { errors } = resultJson(
        page.parts.filter(({ state }) => state !== 'ok'),
        output,
      );
      for (const error of errors) {
        yield separator + JSON.stringify(error);
        separator = ',';
      }
    }
  }

  async *#arrowChunks(head: Head, { first, output }: Pages): Chunks {
    const errors = head.counts.ok < head.rows;
    let start = true;
    for await (const page of this.#pages(head.callId, first)) {
      yield* resultArrow(page.parts, output, { errors, start, end: page.next === null });
      start = false;
    }
  }

  /** The next page is on its way while a reader takes one: it would wait for the store at each page's end otherwise. */
  async *#pages(callId: number, first: ResultPage): AsyncGenerator<ResultPage, void, undefined> {
    let page = first;
    while (page.next !== null) {
      const coming = this.#page(callId, page.next);
      // It is thrown where it is waited for; a reader that has gone before does not ask.
      coming.catch(() => undefined);
      yield page;
      page = await coming;
    }
    yield page;
  }

  async #page(callId: number, from: number): Promise<ResultPage> {
    const page = await this.#queue.result({ callId, from, bytesMax: PAGE_BYTES });
    const id = this.#ids.encode(callId);
    if (page === undefined) throw new SluiceError('call_not_found', `There is no call ${id}.`);
    if (page === 'gone')
      throw new SluiceError('call_gone', `The result of call ${id} is past its retention.`);
    return page;
  }
}

/** The output type of a deleted function's call, from its own output. */
const declaredOutput = (parts: readonly ResultPart[]): Output => {
  const part = parts.find(({ state }) => state === 'ok');
  if (part?.state !== 'ok') return { type: 'null', nullable: true };
  return { type: openStream(part.output.bytes).fields[0]!.type, nullable: true };
};
