/** POST /v1/embeddings: a request into rows, and vectors into its answer. */
import type { FieldJson } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { checkKnown, given, type Members, modelOf, refuse, userOf } from './request-members.ts';
import { inputKind } from './task-shape.ts';
import { estimatedTokens, type Usage } from './token-count.ts';

/** As at OpenAI; who has more sends several requests, or a batch, which share the function's batches all the same. */
export const INPUTS_MAX = 2048;
/** Components of the widest vector that anybody could mean. */
const DIMENSIONS_MAX = 1_000_000;
const KNOWN = new Set(['model', 'input', 'encoding_format', 'dimensions', 'user']);

export type EmbeddingRequest = {
  readonly model: string;
  /** One a row: a text, or token numbers. */
  readonly inputs: readonly string[] | readonly (readonly number[])[];
  readonly kind: 'text' | 'tokens';
  readonly isBase64: boolean;
  readonly dimensions: number | null;
  readonly user: string | null;
};

/** A row's vector, as Arrow has it. */
export type Vector = Float32Array | Float64Array | readonly number[];

const WANTED =
  'a string, a list of token numbers, or a list of 1 to 2048 of either; none of them empty, none of them null';

const isTokens = (value: unknown): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((token) => Number.isSafeInteger(token));

const inputsOf = (input: unknown): Pick<EmbeddingRequest, 'inputs' | 'kind'> => {
  if (typeof input === 'string' && input !== '') return { inputs: [input], kind: 'text' };
  if (!Array.isArray(input) || input.length === 0) return refuse('input', input, WANTED);
  if (isTokens(input)) return { inputs: [input], kind: 'tokens' };
  if (input.length > INPUTS_MAX) return refuse('input', `a list of ${input.length}`, WANTED);
  const kind = typeof input[0] === 'string' ? 'text' : 'tokens';
  const fits = kind === 'text' ? (one: unknown) => typeof one === 'string' && one !== '' : isTokens;
  const wrong = input.findIndex((one) => !fits(one));
  return wrong < 0 ? { inputs: input, kind } : refuse(`input[${wrong}]`, input[wrong], WANTED);
};

/** @throws SluiceError `invalid_request` */
export const parseEmbeddingRequest = (members: Members): EmbeddingRequest => {
  checkKnown(members, KNOWN);
  const format = given(members, 'encoding_format') ?? 'float';
  if (format !== 'float' && format !== 'base64') refuse('encoding_format', format, '"float" or "base64"');
  const dimensions = given(members, 'dimensions');
  const isCount =
    Number.isInteger(dimensions) && (dimensions as number) >= 1 && (dimensions as number) <= DIMENSIONS_MAX;
  if (dimensions !== null && !isCount) refuse('dimensions', dimensions, 'a whole number from 1 on');
  return {
    model: modelOf(members),
    ...inputsOf(given(members, 'input')),
    isBase64: format === 'base64',
    dimensions: dimensions as number | null,
    user: userOf(members),
  };
};

/**
 * The columns of the function's rows.
 * @throws SluiceError `invalid_request` where the function takes texts and tokens came, or the other way round
 */
export const embeddingColumns = (
  { inputs, kind, model }: EmbeddingRequest,
  [field]: readonly FieldJson[],
): Record<string, readonly unknown[]> => {
  if (inputKind(field!.type) !== kind) {
    const takes = kind === 'text' ? 'token lists, and texts' : 'texts, and token lists';
    throw new SluiceError('invalid_request', `The model ${model} takes ${takes} came.`, { field: 'input' });
  }
  return { [field!.name]: inputs };
};

export const embeddingUsage = ({ inputs, kind }: EmbeddingRequest): Usage => {
  let tokens = 0;
  for (const input of inputs) tokens += kind === 'text' ? estimatedTokens(input as string) : input.length;
  return { prompt_tokens: tokens, total_tokens: tokens, counted: kind === 'text' ? 'estimated' : 'exact' };
};

/** Cut to the first components and brought back to length one, as OpenAI does it. */
const cut = (vector: Vector, dimensions: number): Vector => {
  const head = Float64Array.from(vector.slice(0, dimensions));
  const length = Math.hypot(...chunkLengths(head));
  return length === 0 ? Float32Array.from(head) : Float32Array.from(head, (component) => component / length);
};

/** Lengths of runs: a call of a hundred thousand arguments would break the stack. */
const chunkLengths = (vector: Float64Array): number[] => {
  const lengths: number[] = [];
  for (let at = 0; at < vector.length; at += 1024)
    lengths.push(Math.hypot(...vector.subarray(at, at + 1024)));
  return lengths;
};

/** Little-endian float32, as numpy and every machine that runs Node have them. */
const base64Of = (vector: Vector): string => {
  const floats = vector instanceof Float32Array ? vector : Float32Array.from(vector);
  return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength).toString('base64');
};

const refuseVector = (index: number, what: string): never => {
  throw new SluiceError('handler_output_invalid', `The vector of input ${index} ${what}.`, {
    field: `input[${index}]`,
  });
};

/**
 * One `data` entry.
 * @throws SluiceError `invalid_request` where more dimensions are asked for than there are; `handler_output_invalid` for a
 *   vector that is null or has components that JSON cannot say
 */
export const embeddingEntry = (
  { isBase64, dimensions }: Pick<EmbeddingRequest, 'isBase64' | 'dimensions'>,
  index: number,
  vector: Vector | null,
): string => {
  if (vector === null) return refuseVector(index, 'is null');
  if (Array.isArray(vector) && vector.includes(null)) refuseVector(index, 'has a component that is null');
  if (dimensions !== null && dimensions > vector.length)
    return refuse('dimensions', dimensions, `at most ${vector.length}, which the model gives`);
  const used = dimensions === null || dimensions === vector.length ? vector : cut(vector, dimensions);
  const text = isBase64 ? `"${base64Of(used)}"` : `[${used.join()}]`;
  if (!isBase64 && /[NI]/.test(text)) refuseVector(index, 'has a component that is NaN or infinite');
  return `{"object":"embedding","index":${index},"embedding":${text}}`;
};

/** The answer around its entries: the head, and after them the tail. */
export const embeddingAnswer = (
  request: EmbeddingRequest,
): { readonly head: string; readonly tail: string } => ({
  head: '{"object":"list","data":[',
  tail: `],"model":${JSON.stringify(request.model)},"usage":${JSON.stringify(embeddingUsage(request))}}`,
});
