/** A tensor as this server holds it: its elements as bytes, never as one object each. */
import { SluiceError } from '../../errors/sluice-error.ts';
import { DATATYPES, type Datatype, isDatatype } from './datatypes.ts';

/**
 * `fixed`: little-endian elements in row-major order, one byte a BOOL, at any alignment. `bytes`: element i is
 * data[offsets[i], offsets[i + 1]).
 */
export type TensorValues =
  | { readonly kind: 'fixed'; readonly bytes: Uint8Array }
  | { readonly kind: 'bytes'; readonly offsets: Uint32Array; readonly data: Uint8Array };

export type Tensor = {
  readonly name: string;
  readonly datatype: Datatype;
  /** The first dimension is rows. */
  readonly shape: readonly number[];
  readonly values: TensorValues;
};

/** A tensor's name, datatype and shape, checked; its elements are still to come. */
export type TensorHead = Omit<Tensor, 'values'> & { readonly elements: number };

/** Dimensions of a tensor at most; readers of other languages have 32. */
const DIMENSIONS_MAX = 32;
/** As Arrow counts rows and the items of lists. */
export const DIMENSION_MAX = 2 ** 31 - 1;
/** Rows, and lists in them, of nothing (a dimension of 0 behind them) cost a sender nothing, and cost memory here. */
const BARE_MAX = 2 ** 20;
const NAME_CHARACTERS_MAX = 1024;

export const refuseInput = (name: string, what: string): never => {
  throw new SluiceError('invalid_request', `input ${JSON.stringify(name)} ${what}`, { field: name });
};

export const shapeText = (shape: readonly unknown[]): string => {
  const text = `[${shape.slice(0, 16).join(', ')}${shape.length > 16 ? ', …' : ''}]`;
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
};

const namedOf = (name: unknown, at: number): string =>
  typeof name === 'string' && name.length > 0 && name.length <= NAME_CHARACTERS_MAX
    ? name
    : refuseInput(`#${at}`, `has no name; give a string of 1 to ${NAME_CHARACTERS_MAX} characters`);

/** @throws SluiceError `invalid_request` naming the input and what is wrong with its name, datatype or shape */
export const tensorHead = (given: Readonly<Record<string, unknown>>, at: number): TensorHead => {
  const name = namedOf(given.name, at);
  const { datatype, shape } = given;
  if (!isDatatype(datatype)) {
    const shown = JSON.stringify(datatype)?.slice(0, 40) ?? 'missing';
    return refuseInput(name, `has the datatype ${shown}; give one of ${Object.keys(DATATYPES).join(', ')}`);
  }
  if (!Array.isArray(shape) || shape.length === 0 || shape.length > DIMENSIONS_MAX)
    return refuseInput(name, `needs a shape of 1 to ${DIMENSIONS_MAX} dimensions, rows first`);
  let elements = 1;
  for (const size of shape as unknown[]) {
    if (!Number.isInteger(size) || (size as number) < 0 || (size as number) > DIMENSION_MAX)
      return refuseInput(
        name,
        `has the shape ${shapeText(shape)}; a dimension is an integer from 0 to ${DIMENSION_MAX}`,
      );
    elements *= size as number;
  }
  if (elements > Number.MAX_SAFE_INTEGER)
    return refuseInput(name, `has the shape ${shapeText(shape)}, whose product is too large`);
  if (elements === 0 && bareOf(shape as number[]) > BARE_MAX)
    return refuseInput(name, `has the shape ${shapeText(shape)}: too many rows or lists without elements`);
  return { name, datatype, shape: shape as number[], elements };
};

/** The empty lists, or the rows, that the dimensions before the first 0 make. */
const bareOf = (shape: readonly number[]): number =>
  shape.slice(0, shape.indexOf(0)).reduce((product, size) => product * size, 1);

export const rowsOf = ({ shape }: Pick<Tensor, 'shape'>): number => shape[0]!;

/** Bytes of a tensor in the binary form. */
export const tensorBytes = ({ values }: Tensor): number =>
  values.kind === 'fixed'
    ? values.bytes.byteLength
    : values.data.byteLength + (values.offsets.length - 1) * 4;
