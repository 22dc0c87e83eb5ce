/** Which inputs and outputs a task needs, and what a function's column takes of a request. */
import type { FieldJson, Task, TypeJson } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';

const TEXTS: readonly TypeJson[] = ['utf8', 'large_utf8'];
const TOKENS: readonly TypeJson[] = [
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
];
const NUMBERS: readonly TypeJson[] = ['float16', 'float32', 'float64'];

const isText = (type: TypeJson): boolean => TEXTS.includes(type);

/** The items of a list of any kind; null: it is none. */
export const itemOf = (type: TypeJson): FieldJson | null => {
  if (typeof type === 'string') return null;
  if ('list' in type) return type.list;
  if ('large_list' in type) return type.large_list;
  return 'fixed_size_list' in type ? type.fixed_size_list : null;
};

/** `text`: a string; `tokens`: a list of token numbers; `messages`: a list of {role, content}. */
export type InputKind = 'text' | 'tokens' | 'messages';

export const inputKind = (type: TypeJson): InputKind | null => {
  if (isText(type)) return 'text';
  if (type === 'json') return 'messages';
  const item = itemOf(type);
  if (item === null || (typeof type === 'object' && 'fixed_size_list' in type)) return null;
  if (TOKENS.includes(item.type)) return 'tokens';
  return isMessage(item.type) ? 'messages' : null;
};

const isMessage = (type: TypeJson): boolean => {
  if (typeof type === 'string' || !('struct' in type)) return false;
  const names = type.struct.map(({ name }) => name).sort();
  return names.join() === 'content,role' && type.struct.every((field) => isText(field.type));
};

/** Numbers and texts of a request that change an answer, and reach a function that has a nullable input of the name. */
export const PARAMETERS = [
  'max_tokens',
  'temperature',
  'top_p',
  'stop',
  'seed',
  'presence_penalty',
  'frequency_penalty',
] as const;

const refuse = (field: string, what: string): never => {
  throw new SluiceError('invalid_function', what, { field });
};

/** @throws SluiceError `invalid_function` where the function's inputs and output are not those of the task */
export const checkTask = (task: Task, inputs: readonly FieldJson[] | null, output: TypeJson): void => {
  const [first, ...more] = inputs ?? [];
  const kind = first === undefined ? null : inputKind(first.type);
  if (task === 'embedding') {
    if ((kind !== 'text' && kind !== 'tokens') || more.length > 0) refuse('inputs', EMBEDDING_INPUT);
    const item = itemOf(output);
    if (item === null || !NUMBERS.includes(item.type)) refuse('output.type', EMBEDDING_OUTPUT);
    return;
  }
  const areParameters = more.every(
    ({ name, nullable }) => nullable && (PARAMETERS as readonly string[]).includes(name),
  );
  if (kind === null || !areParameters) refuse('inputs', COMPLETION_INPUT);
  if (!isText(output)) refuse('output.type', COMPLETION_OUTPUT);
};

const EMBEDDING_INPUT =
  'task is "embedding", and the inputs are not one column of texts (utf8) or of token lists (a list of integers); leave the task out, or change the inputs.';
const EMBEDDING_OUTPUT =
  'task is "embedding", and the output is not a list of float16, float32 or float64; leave the task out, or change the output.';
const COMPLETION_INPUT = `task is "completion", and the inputs are not a prompt (utf8, or a list of integers) or messages (json, or a list of structs of role and content), with none but nullable ones of ${PARAMETERS.join(', ')} after it; leave the task out, or change the inputs.`;
const COMPLETION_OUTPUT =
  'task is "completion", and the output is not a text (utf8); leave the task out, or change the output.';
