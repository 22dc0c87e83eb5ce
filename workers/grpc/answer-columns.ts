/** A response message as rows of the function's output. */
import {
  type ArrowStream,
  CastError,
  columnStream,
  readStreamOnce,
  sameType,
} from '../../shared/arrow/index.ts';
import type { FieldJson, FunctionSpec, TypeJson } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { sharedBytes } from '../../shared/runtime/shared-bytes.ts';
import type { HandlerOutput } from '../handler.ts';

const RESULT = 'result';

const refuse = (detail: string): never => {
  throw new SluiceError('handler_output_invalid', detail);
};

const shared = (bytes: Uint8Array): Uint8Array => {
  const out = sharedBytes(bytes.byteLength);
  out.set(bytes);
  return out;
};

const readAnswer = (bytes: Uint8Array): ArrowStream => {
  try {
    return readStreamOnce(bytes);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return refuse(`the answer is not a valid Arrow stream: ${error.message}`);
  }
};

const names = (fields: readonly FieldJson[]): string =>
  fields.map(({ name }) => `"${name}"`).join(', ') || 'none';

/** Struct members that are columns of the answer, in the struct's order; null when one is missing. */
const memberColumns = (stream: ArrowStream, members: readonly FieldJson[]): readonly number[] | null => {
  const found = members.map((member) => stream.fields.findIndex(({ name }) => name === member.name));
  return members.length === 0 || found.includes(-1) ? null : found;
};

/** The column that is the answer by itself: `result`, or the only one. */
const ownColumn = (stream: ArrowStream): number =>
  stream.fields.length === 1 ? 0 : stream.fields.findIndex(({ name }) => name === RESULT);

type Output = FunctionSpec['output'];

const asOutput = (stream: ArrowStream, { type }: Output): Uint8Array => {
  const field = { name: RESULT, type, nullable: true };
  const own = ownColumn(stream);
  const members = isStruct(type) ? type.struct : null;
  const found =
    members === null || (own >= 0 && isStruct(stream.fields[own]!.type))
      ? null
      : memberColumns(stream, members);
  if (found !== null) return columnStream(stream, found, field, true);
  if (own < 0) return refuse(`the answer has the columns ${names(stream.fields)}; ${wantedText(members)}`);
  return columnStream(stream, [own], field, false);
};

const isStruct = (type: TypeJson): type is { readonly struct: readonly FieldJson[] } =>
  typeof type !== 'string' && 'struct' in type;

const wantedText = (members: readonly FieldJson[] | null): string =>
  members === null
    ? 'it needs one column, or one that is called "result"'
    : `it needs ${names(members)}, or one column of structs`;

/** An answer that is what results are stored as goes as it came. */
const isOutput = ({ fields }: ArrowStream, { type }: Output): boolean =>
  fields.length === 1 && fields[0]!.name === RESULT && sameType(fields[0]!.type, type);

/**
 * The rows of one message; null when it holds none.
 * @throws SluiceError `handler_output_invalid` naming what is wrong with its bytes, columns or types
 */
export const outputOfMessage = (bytes: Uint8Array, output: Output): HandlerOutput | null => {
  if (bytes.byteLength === 0) return null;
  const stream = readAnswer(bytes);
  if (stream.rows === 0) return null;
  if (isOutput(stream, output)) return { rows: stream.rows, stream: shared(bytes), refused: [] };
  try {
    return { rows: stream.rows, stream: asOutput(stream, output), refused: [] };
  } catch (error) {
    if (error instanceof CastError) return refuse(`the answer's ${error.message}`);
    throw error;
  }
};
