/** Declares a function in TypeScript or JavaScript: `sluice deploy FILE` registers it, a local call runs its body. */
import type { FieldJson, ImageStep } from '../shared/domain/function.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { RetryJson, SpecJson } from '../shared/wire/api.ts';
import { fieldOf, type Type, type ValueOf } from './type.ts';

export type InputTypes = Readonly<Record<string, Type<unknown>>>;

/** The whole batch, a column an input. */
export type ColumnsOf<I extends InputTypes> = { readonly [K in keyof I]: readonly ValueOf<I[K]>[] };
/** One row. */
export type RowOf<I extends InputTypes> = { readonly [K in keyof I]: ValueOf<I[K]> };

export type HandlerContext = {
  readonly function: string;
  readonly version: string;
  readonly batchId: number;
  readonly attempt: number;
  readonly calls: readonly {
    readonly callId: string;
    readonly rows: number;
    readonly metadata: Readonly<Record<string, string>>;
  }[];
  readonly deadlineMs: number | null;
  readonly traceparent: string | null;
};

type Eventually<T> = T | Promise<T>;

/** Answers for a batch: one entry a row, at once or as consecutive parts. A `RowError` stands for a row that failed. */
export type ColumnsHandler<I extends InputTypes, O> = (
  columns: ColumnsOf<I>,
  context: HandlerContext,
  signal: AbortSignal,
) =>
  | Eventually<ArrayLike<ValueOf<O> | RowError>>
  | AsyncGenerator<ArrayLike<ValueOf<O> | RowError>>
  | Generator<ArrayLike<ValueOf<O> | RowError>>;

export type RowHandler<I extends InputTypes, O> = (
  row: RowOf<I>,
  context: HandlerContext,
  signal: AbortSignal,
) => Eventually<ValueOf<O> | RowError>;

export type FunctionOptions<I extends InputTypes, O extends Type<unknown>> = {
  readonly name: string;
  readonly inputs: I;
  readonly output: O;
  /** Rows of a batch at most. */
  readonly maxBatchingSize?: number;
  /** How long the oldest row waits for more, in milliseconds. */
  readonly maxBufferDuration?: number;
  readonly maxBatchBytes?: number;
  /** A number of retries, or a policy. Default 3. */
  readonly retries?: number | RetryPolicy;
  /** `off`: a failed batch fails as a whole, for handlers that must not run again. */
  readonly isolation?: 'bisect' | 'off';
  readonly callTimeoutMs?: number;
  readonly minReplicas?: number;
  readonly maxReplicas?: number;
  readonly cpu?: number;
  readonly memoryBytes?: number;
  readonly gpu?: string;
  /** What OpenAI's clients may use it for: texts to vectors, or a prompt or messages to a text. */
  readonly task?: 'embedding' | 'completion';
  readonly image?: { readonly base?: string; readonly steps?: readonly ImageStep[] };
  readonly env?: Readonly<Record<string, string>>;
  /** Once a replica, before its first batch. */
  readonly onStartup?: () => Eventually<void>;
  readonly onShutdown?: () => Eventually<void>;
};

export type RetryPolicy = {
  readonly retries: number;
  readonly initialMs?: number;
  readonly multiplier?: number;
  readonly maxMs?: number;
  /** Share of the wait that is random, 0 to 1. */
  readonly jitter?: number;
  /** Names of error classes; empty or left out: all. */
  readonly retryOn?: readonly string[];
  readonly terminalOn?: readonly string[];
};

const ROW_ERROR: unique symbol = Symbol.for('sluice.rowError') as never;

/** One row's failure: its neighbours are kept. Thrown in row mode, returned in the row's place in columns mode. */
export class RowError extends Error {
  readonly kind: string;

  constructor(message: string, options: { kind?: string; cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'RowError';
    this.kind = options.kind ?? 'RowError';
  }

  /** Another copy of this package makes errors of another class: this mark is what tells. */
  get [ROW_ERROR](): true {
    return true;
  }
}

export const isRowError = (value: unknown): value is RowError =>
  typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[ROW_ERROR] === true;

/** What a handler process and `sluice deploy` find under this symbol of an exported function. */
export const FUNCTION: unique symbol = Symbol.for('sluice.function') as never;

export type FunctionDefinition = {
  /** All of the spec but `handler` and `source`, which the deploy adds. */
  readonly spec: Omit<SpecJson, 'handler' | 'source'>;
  readonly handler: (...args: never[]) => unknown;
  readonly onStartup: (() => Eventually<void>) | null;
  readonly onShutdown: (() => Eventually<void>) | null;
};

type Defined<H> = H & { readonly [FUNCTION]: FunctionDefinition };

export function defineFunction<const I extends InputTypes, const O extends Type<unknown>>(
  options: FunctionOptions<I, O> & { readonly mode: 'row' },
  handler: RowHandler<I, O>,
): Defined<RowHandler<I, O>>;
export function defineFunction<const I extends InputTypes, const O extends Type<unknown>>(
  options: FunctionOptions<I, O> & { readonly mode?: 'columns' },
  handler: ColumnsHandler<I, O>,
): Defined<ColumnsHandler<I, O>>;
export function defineFunction(
  options: FunctionOptions<InputTypes, Type<unknown>> & { readonly mode?: 'columns' | 'row' },
  handler: (...args: never[]) => unknown,
): Defined<(...args: never[]) => unknown> {
  checkName(options.name);
  const definition: FunctionDefinition = {
    spec: specOf(options),
    handler,
    onStartup: options.onStartup ?? null,
    onShutdown: options.onShutdown ?? null,
  };
  // The exported value stays callable: a local call runs the body.
  const local = (...args: never[]): unknown => handler(...args);
  return Object.defineProperty(local, FUNCTION, { value: definition }) as Defined<typeof local>;
}

const checkName = (name: string): void => {
  if (typeof name === 'string' && /^[A-Za-z][A-Za-z0-9_.-]{0,127}$/.test(name)) return;
  throw new SluiceError(
    'invalid_function',
    `The name is ${JSON.stringify(name)}; give a letter and up to 127 letters, digits, ".", "_" or "-".`,
    { field: 'name' },
  );
};

const retryOf = (retries: number | RetryPolicy): RetryJson => {
  if (typeof retries === 'number') return { retries };
  const { initialMs, maxMs, retryOn, terminalOn, ...rest } = retries;
  return defined({
    ...rest,
    initial_ms: initialMs,
    max_ms: maxMs,
    retry_on: retryOn,
    terminal_on: terminalOn,
  });
};

/** Without the members that are undefined, so that the server's defaults hold. */
const defined = <T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(members).filter(([, member]) => member !== undefined)) as never;

const specOf = (
  options: FunctionOptions<InputTypes, Type<unknown>> & { readonly mode?: 'columns' | 'row' },
): FunctionDefinition['spec'] => {
  const inputs: FieldJson[] = Object.entries(options.inputs).map(([name, type]) => fieldOf(name, type));
  return defined({
    name: options.name,
    runtime: 'node' as const,
    input_mode: options.mode ?? ('columns' as const),
    inputs,
    output: { type: options.output.json, nullable: options.output.nullable },
    max_batching_size: options.maxBatchingSize,
    max_buffer_duration: options.maxBufferDuration,
    max_batch_bytes: options.maxBatchBytes,
    retry: options.retries === undefined ? undefined : retryOf(options.retries),
    isolation: options.isolation,
    call_timeout_ms: options.callTimeoutMs,
    min_replicas: options.minReplicas,
    max_replicas: options.maxReplicas,
    resources: resourcesOf(options),
    environment: environmentOf(options),
    task: options.task,
  }) as FunctionDefinition['spec'];
};

const resourcesOf = ({
  cpu,
  memoryBytes,
  gpu,
}: FunctionOptions<InputTypes, Type<unknown>>): SpecJson['resources'] =>
  cpu === undefined && memoryBytes === undefined && gpu === undefined
    ? undefined
    : { cpu: cpu ?? null, memory_bytes: memoryBytes ?? null, gpu: gpu ?? null };

const environmentOf = ({
  image,
  env,
}: FunctionOptions<InputTypes, Type<unknown>>): SpecJson['environment'] =>
  image === undefined && env === undefined
    ? undefined
    : { base: image?.base ?? null, steps: image?.steps ?? [], env: env ?? {} };
