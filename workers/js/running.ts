/** Runs one batch in a Node handler process: values in, answer frames out. */
import type { SpecJson } from '../../shared/wire/api.ts';
import { type Columns, decodeBatch, encodeOutput, OutputError } from './batch-values.ts';
import type { LoadedFunction } from './loading.ts';

const ROW_ERROR = Symbol.for('sluice.rowError');

export type InitHeader = {
  /** Only containers may lack a handler. */
  readonly function: Omit<SpecJson, 'source'> & Required<Pick<SpecJson, 'handler'>>;
  readonly version: string;
  readonly directory: string;
  readonly replica: number;
};

export type BatchHeader = {
  readonly batch: number;
  readonly attempt: number;
  readonly rows: number;
  readonly parts: readonly number[];
  readonly calls: readonly {
    readonly call_id: string;
    readonly rows: number;
    readonly metadata: Readonly<Record<string, string>>;
  }[];
  readonly deadline_ms: number | null;
  readonly traceparent: string | null;
};

export type Answer = { readonly header: object; readonly body: Uint8Array | null };

export type BatchScope = {
  readonly init: InitHeader;
  readonly loaded: LoadedFunction;
  readonly signal: AbortSignal;
  readonly respond: (answer: Answer) => Promise<void>;
};

const classNames = (error: object): string[] => {
  const names: string[] = [];
  for (let at = Object.getPrototypeOf(error); at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    names.push(String(at.constructor?.name ?? ''));
  }
  // An error's name may be set on the error alone.
  const name = (error as { name?: unknown }).name;
  return typeof name === 'string' && !names.includes(name) ? [name, ...names] : names;
};

export const errorText = (error: unknown) => {
  if (!(error instanceof Error)) return { kind: typeof error, message: String(error), mro: [] };
  const mro = classNames(error);
  return { kind: mro[0] ?? error.name, message: error.message, traceback: error.stack ?? '', mro };
};

const isRowError = (value: unknown): value is Error & { readonly kind?: string } =>
  typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[ROW_ERROR] === true;

const isGenerator = (value: unknown): value is Iterable<unknown> | AsyncIterable<unknown> =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as { next?: unknown }).next === 'function' &&
  (Symbol.iterator in value || Symbol.asyncIterator in value);

const asRows = (value: unknown, rows: number): ArrayLike<unknown> => {
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
    return value as ArrayLike<unknown>;
  }
  throw new OutputError(
    `the handler got ${rows} rows and returned ${value === null ? 'null' : typeof value}; it must return an array`,
  );
};

const lengthError = (rows: number, returned: number): OutputError =>
  new OutputError(
    `the handler got ${rows} rows and returned ${returned}; it must return one value for each row`,
  );

/** Refused rows leave the values: null in their place, the error beside. */
const answerOf = (
  type: 'result' | 'partial',
  from: number,
  values: ArrayLike<unknown>,
  scope: BatchScope,
) => {
  const errors: [number, { kind: string; message: string }][] = [];
  for (let row = 0; row < values.length; row += 1) {
    const value = values[row];
    if (isRowError(value)) errors.push([row, { kind: value.kind ?? 'RowError', message: value.message }]);
  }
  const refused = new Set(errors.map(([row]) => row));
  const kept =
    refused.size === 0 ? values : Array.from(values, (value, row) => (refused.has(row) ? null : value));
  const body = encodeOutput(kept, scope.init.function.output, refused);
  const header = { type, rows: values.length, errors, ...(type === 'partial' ? { from } : {}) };
  return { header, body };
};

const rowMode = async (
  scope: BatchScope,
  columns: Columns,
  rows: number,
  context: object,
): Promise<unknown[]> => {
  const names = Object.keys(columns);
  const answers = Array.from({ length: rows }, async (_, at) => {
    try {
      const row = Object.fromEntries(names.map((name) => [name, columns[name]![at]]));
      return await scope.loaded.handler(row, context, scope.signal);
    } catch (error) {
      if (isRowError(error)) return error;
      throw error;
    }
  });
  return Promise.all(answers);
};

const columnsMode = async (
  scope: BatchScope,
  columns: Columns,
  rows: number,
  context: object,
): Promise<ArrayLike<unknown> | null> => {
  const returned = await scope.loaded.handler(columns, context, scope.signal);
  if (!isGenerator(returned)) return asRows(returned, rows);
  let from = 0;
  for await (const part of returned) {
    const values = asRows(part, rows);
    if (from + values.length > rows) throw lengthError(rows, from + values.length);
    if (values.length > 0) await scope.respond(answerOf('partial', from, values, scope));
    from += values.length;
  }
  if (from !== rows) throw lengthError(rows, from);
  return null;
};

const contextOf = (init: InitHeader, header: BatchHeader): object => ({
  function: init.function.name,
  version: init.version,
  batchId: header.batch,
  attempt: header.attempt,
  calls: header.calls.map(({ call_id, rows, metadata }) => ({ callId: call_id, rows, metadata })),
  deadlineMs: header.deadline_ms,
  traceparent: header.traceparent,
});

const handled = async (scope: BatchScope, header: BatchHeader, body: Uint8Array): Promise<Answer> => {
  const spec = scope.init.function;
  const columns = decodeBatch(body, header.parts, spec.inputs);
  const context = contextOf(scope.init, header);
  const run = spec.input_mode === 'row' ? rowMode : columnsMode;
  const values = await run(scope, columns, header.rows, context);
  if (values === null) return { header: { type: 'result', rows: 0, errors: [] }, body: null };
  if (values.length !== header.rows) throw lengthError(header.rows, values.length);
  return answerOf('result', 0, values, scope);
};

/** Never rejects: what goes wrong is the batch's answer. */
export const runBatch = async (scope: BatchScope, header: BatchHeader, body: Uint8Array): Promise<void> => {
  let answer: Answer;
  try {
    // Cancelled while it waited behind another batch: nobody reads the answer, so the handler need not run.
    scope.signal.throwIfAborted();
    answer = await handled(scope, header, body);
  } catch (error) {
    const code = error instanceof OutputError ? 'handler_output_invalid' : 'handler_error';
    answer = { header: { type: 'error', error: { ...errorText(error), code } }, body: null };
  }
  await scope.respond(answer);
};
