/**
 * Extension types, which readers make of a field's metadata (https://arrow.apache.org/docs/format/CanonicalExtensions.html).
 * pyarrow gives up the whole stream where the metadata do not fit the storage, and with it the batch that others have rows in.
 */
import type { TypeJson } from '../domain/function.ts';

type Fits = (storage: TypeJson, metadata: string) => boolean;

const TEXTS: ReadonlySet<TypeJson> = new Set(['utf8', 'large_utf8', 'json']);

const CHECKED: Readonly<Record<string, Fits>> = {
  'arrow.uuid': (storage, metadata) =>
    metadata === '' &&
    typeof storage !== 'string' &&
    'fixed_size_binary' in storage &&
    storage.fixed_size_binary === 16,
  'arrow.json': (storage) => TEXTS.has(storage),
  'arrow.bool8': (storage, metadata) => metadata === '' && storage === 'int8',
  'arrow.fixed_shape_tensor': (storage, metadata) =>
    typeof storage !== 'string' && 'fixed_size_list' in storage && isShape(metadata, storage.size),
};

/** Whether readers take the extension: unknown names are the storage to them, save in the two families that have readers. */
export const extensionFits: (name: string, ...of: Parameters<Fits>) => boolean = (name, storage, metadata) =>
  Object.hasOwn(CHECKED, name) ? CHECKED[name]!(storage, metadata) : !/^(arrow|pandas)\./.test(name);

function isShape(metadata: string, size: number): boolean {
  try {
    const value: unknown = JSON.parse(metadata);
    // Parsers differ in what they make of 2.0 and of a member that is there twice.
    if (JSON.stringify(value) !== metadata.replace(/\s/g, '')) return false;
    const { shape, permutation, dim_names: names } = value as Readonly<Record<string, unknown>>;
    if (!isList(shape, isLength) || shape.reduce((product, length) => product * length, 1) !== size)
      return false;
    const places = shape.map((_, place) => place).join();
    if (permutation !== undefined)
      if (!isList(permutation, isLength) || [...permutation].sort((a, b) => a - b).join() !== places)
        return false;
    return names === undefined || (isList(names, isText) && names.length === shape.length);
  } catch {
    return false;
  }
}

const isLength = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown): value is string => typeof value === 'string';
const isList = <T>(value: unknown, isItem: (item: unknown) => item is T): value is readonly T[] =>
  Array.isArray(value) && value.every(isItem);
