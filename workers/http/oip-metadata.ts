/** What an engine says of itself and its model: `GET /v2` names its extensions, `GET /v2/models/M` its tensors. */
import type { Tensor } from '../../shared/wire/oip/index.ts';
import type { EngineConnection } from './engine-connection.ts';

/** An engine that does not answer about itself in this time is asked in JSON. */
const METADATA_MS_MAX = 5000;
const BINARY_EXTENSIONS: ReadonlySet<unknown> = new Set(['binary_tensor_data', 'binary_data']);
/** `/v2` with what lies before it, and the model below it. */
const BASE = /^(.*\/v2)(?:\/models\/.+)?$/;

export type OipMetadata = {
  readonly isBinary: boolean;
  /** Shapes of the inputs by name; -1 is any size. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
};

export const NO_METADATA: OipMetadata = { isBinary: false, shapes: new Map() };

const asked = async (connection: EngineConnection, path: string, signal: AbortSignal): Promise<unknown> => {
  try {
    const reply = await connection.request({
      path,
      body: null,
      headers: { accept: 'application/json' },
      signal,
    });
    return reply.status === 200 ? JSON.parse(reply.body.toString('utf8')) : null;
  } catch {
    // Metadata are an offer; an engine without them works all the same, and a broken one shows with its first batch.
    return null;
  }
};

const listOf = (value: unknown, name: string): readonly unknown[] => {
  const member = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  return Array.isArray(member) ? member : [];
};

const isShape = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((size) => Number.isInteger(size));

const shapesOf = (model: unknown): OipMetadata['shapes'] => {
  const shapes = new Map<string, readonly number[]>();
  for (const input of listOf(model, 'inputs')) {
    if (typeof input !== 'object' || input === null) continue;
    const { name, shape } = input as { readonly name?: unknown; readonly shape?: unknown };
    if (typeof name === 'string' && isShape(shape)) shapes.set(name, shape);
  }
  return shapes;
};

export const engineMetadata = async (
  connection: EngineConnection,
  basePath: string,
  signal: AbortSignal,
): Promise<OipMetadata> => {
  const root = BASE.exec(basePath)?.[1];
  if (root === undefined) return NO_METADATA;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(METADATA_MS_MAX)]);
  const server = await asked(connection, root, limited);
  const model = basePath === root ? null : await asked(connection, basePath, limited);
  const isBinary = listOf(server, 'extensions').some((name) => BINARY_EXTENSIONS.has(name));
  return { isBinary, shapes: shapesOf(model) };
};

/** With the dimensions of 1 that the model has behind a row's own: [n] goes as [n, 1] where it says [-1, 1]. */
export const shapedFor = (tensor: Tensor, { shapes }: OipMetadata): Tensor => {
  const own = tensor.shape;
  const wanted = shapes.get(tensor.name);
  if (wanted === undefined || wanted.length <= own.length) return tensor;
  const more = wanted.slice(own.length);
  return more.every((size) => size === 1) ? { ...tensor, shape: [...own, ...more] } : tensor;
};
