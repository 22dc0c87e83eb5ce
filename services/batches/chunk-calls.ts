/** The calls of a chunk: one for each function that its lines name, admitted under a key of its own, read row by row. */
import { createHash } from 'node:crypto';
import { jsonToPayload, openStream, resultArrow, streamToColumns } from '../../shared/arrow/index.ts';
import { isFinished, type RowError } from '../../shared/domain/call.ts';
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Admission, CallEvent, QueueStore, ResultPart } from '../../shared/store/ports/queue.ts';
import { requestColumns, requestRows, type TaskRequest } from '../../shared/wire/openai/task-request.ts';

/** Output bytes that are read at once. */
const PAGE_BYTES = 4 * 2 ** 20;
/** A watch may miss an end where the store's connection was cut. */
const LOOK_AGAIN_MS = 20_000;

export type Asked = {
  readonly request: TaskRequest;
  readonly columns: Readonly<Record<string, readonly unknown[]>>;
};

/** @throws SluiceError where the function does not take what the line asks, its values among it */
export const checkAsked = (request: TaskRequest, record: FunctionRecord): Asked => {
  const { spec } = record.current;
  const columns = requestColumns(request, spec);
  jsonToPayload({ columns }, spec.inputs);
  return { request, columns };
};

export type CallOrder = {
  readonly record: FunctionRecord;
  readonly asked: readonly Asked[];
  /** Numbers of the lines that asked. */
  readonly lines: readonly number[];
  readonly owner: number;
  readonly lane: string;
  readonly deadlineAt: number;
  /** `batch id/first line`; the same each time. */
  readonly key: string;
  readonly digest: string;
  readonly metadata: Readonly<Record<string, string>>;
};

/** Lines one after another; a column that a line has nothing for is null there. */
const joined = ({ record, asked }: CallOrder): Record<string, readonly unknown[]> =>
  Object.fromEntries(
    (record.current.spec.inputs ?? []).map(({ name }) => [
      name,
      asked.flatMap(
        ({ request, columns }) => columns[name] ?? new Array<unknown>(requestRows(request)).fill(null),
      ),
    ]),
  );

export const admissionOf = (order: CallOrder, now: number): Admission => {
  const { record, lines, owner, lane, deadlineAt, key, digest, metadata } = order;
  const { spec, id } = record.current;
  const { rows, bytes, schemaKey, payload } = jsonToPayload({ columns: joined(order) }, spec.inputs);
  // Its rows are those lines' alone: who finds it again must ask for the same ones.
  const bodyDigest = createHash('sha256').update(`${record.name} ${digest} ${lines.join()}`).digest('hex');
  return {
    ...{ now, functionName: record.name, versionId: id, apiKeyId: owner, lane, priority: 0, deadlineAt },
    ...{ rows, bytes, schemaKey, payload, idempotency: { key, bodyDigest }, metadata },
    ...{ traceparent: null, watch: true },
  };
};

/** Resolves when the call is finished; rejects when it was lost, or `halt` is aborted. */
export const callEnd = (queue: QueueStore, callId: number, halt: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const end = (settle: () => void): void => {
      unwatch();
      clearInterval(timer);
      halt.removeEventListener('abort', onHalt);
      settle();
    };
    const onHalt = (): void => end(() => reject(halt.reason as Error));
    const look = async (): Promise<void> => {
      const call = await queue.call(callId);
      if (call === undefined || call === 'gone' || isFinished(call.status)) end(resolve);
    };
    const timer = setInterval(() => look().catch(() => undefined), LOOK_AGAIN_MS);
    const onEvent = ({ status }: CallEvent): void => {
      if (isFinished(status)) end(resolve);
    };
    const unwatch = queue.watch({ kind: 'call', callId }, onEvent, ({ code, detail }) =>
      end(() => reject(new SluiceError(code, detail))),
    );
    halt.addEventListener('abort', onHalt);
    if (halt.aborted) onHalt();
    // One that was attached to may have ended before it was watched.
    else look().catch((error: unknown) => end(() => reject(error as Error)));
  });

export type RowAnswer = { readonly value: unknown } | { readonly error: RowError };

const UNDONE: Readonly<Record<'cancelled' | 'expired' | 'pending', RowError>> = {
  cancelled: { code: 'row_cancelled', message: 'The row was cancelled.' },
  expired: { code: 'row_expired', message: 'The time was over before the row ran.' },
  pending: { code: 'row_unfinished', message: 'The row is not finished.' },
};

const errorOf = (part: Exclude<ResultPart, { state: 'ok' }>): RowError =>
  part.state === 'failed' ? part.error : UNDONE[part.state];

/** One answer a row, in row order; a page of the output is in memory. */
export async function* rowsOf(queue: QueueStore, callId: number): AsyncGenerator<RowAnswer> {
  for (let from: number | null = 0; from !== null; ) {
    const page = await queue.result({ callId, from, bytesMax: PAGE_BYTES });
    if (page === undefined || page === 'gone')
      throw new SluiceError('call_gone', 'The answer is past its retention; it was not read in time.');
    for (const part of page.parts) {
      if (part.state === 'ok') {
        const { type } = openStream(part.output.bytes).fields[0]!;
        const bytes = Buffer.concat([...resultArrow([part], { type, nullable: true })]);
        for (const value of streamToColumns(bytes).result as unknown[]) yield { value };
      } else {
        const error = errorOf(part);
        for (let row = 0; row < part.count; row += 1) yield { error };
      }
    }
    from = page.next;
  }
}
