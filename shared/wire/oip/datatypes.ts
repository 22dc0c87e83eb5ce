/**
 * The datatypes of the Open Inference Protocol (https://github.com/kserve/open-inference-protocol, "Tensor Data Types")
 * and the Arrow types that they are.
 */
import type { TypeJson } from '../../domain/function.ts';

export type Datatype =
  | 'BOOL'
  | 'UINT8'
  | 'UINT16'
  | 'UINT32'
  | 'UINT64'
  | 'INT8'
  | 'INT16'
  | 'INT32'
  | 'INT64'
  | 'FP16'
  | 'FP32'
  | 'FP64'
  | 'BYTES';

/** `bytes`: of one element in the binary form; 0 for BYTES, whose elements bring their own lengths. */
type Facts = { readonly arrow: string; readonly bytes: number };

export const DATATYPES: Readonly<Record<Datatype, Facts>> = {
  BOOL: { arrow: 'bool', bytes: 1 },
  UINT8: { arrow: 'uint8', bytes: 1 },
  UINT16: { arrow: 'uint16', bytes: 2 },
  UINT32: { arrow: 'uint32', bytes: 4 },
  UINT64: { arrow: 'uint64', bytes: 8 },
  INT8: { arrow: 'int8', bytes: 1 },
  INT16: { arrow: 'int16', bytes: 2 },
  INT32: { arrow: 'int32', bytes: 4 },
  INT64: { arrow: 'int64', bytes: 8 },
  FP16: { arrow: 'float16', bytes: 2 },
  FP32: { arrow: 'float32', bytes: 4 },
  FP64: { arrow: 'float64', bytes: 8 },
  BYTES: { arrow: 'binary', bytes: 0 },
};

export const isDatatype = (name: unknown): name is Datatype =>
  typeof name === 'string' && Object.hasOwn(DATATYPES, name);

const BY_ARROW = new Map(
  (Object.keys(DATATYPES) as Datatype[])
    .filter((name) => name !== 'BYTES')
    .map((name) => [DATATYPES[name].arrow, name]),
);

/** The datatype of a value that is no list. What a tensor has no number for is said in BYTES. */
export const datatypeOf = (type: TypeJson): Datatype => {
  if (typeof type === 'string') return BY_ARROW.get(type) ?? 'BYTES';
  return 'dictionary' in type ? datatypeOf(type.dictionary) : 'BYTES';
};

export type Nested = {
  /** The type inside of all lists. */
  readonly leaf: TypeJson;
  /** Items of a row in each list; null where the type does not say. */
  readonly sizes: readonly (number | null)[];
};

/** Lists in lists are a tensor's dimensions behind that of the rows. */
export const nestedOf = (type: TypeJson): Nested => {
  const sizes: (number | null)[] = [];
  let leaf = type;
  for (let list = listOf(leaf); list !== null; list = listOf(leaf)) {
    sizes.push(list.size);
    leaf = list.item;
  }
  return { leaf, sizes };
};

const listOf = (type: TypeJson): { readonly item: TypeJson; readonly size: number | null } | null => {
  if (typeof type === 'string') return null;
  if ('list' in type) return { item: type.list.type, size: null };
  if ('large_list' in type) return { item: type.large_list.type, size: null };
  return 'fixed_size_list' in type ? { item: type.fixed_size_list.type, size: type.size } : null;
};
