/** Inference requests over HTTP: one JSON object, and behind it, where a header says how long the JSON is, binary tensors. */
import { isUtf8 } from 'node:buffer';
import { SluiceError } from '../../errors/sluice-error.ts';
import { exactlyParsed, hasRounded } from './exact-integers.ts';
import { refuseInput, type Tensor, type TensorHead, tensorHead } from './tensor.ts';
import { binaryTensor, jsonTensor } from './tensor-input.ts';

export type WantedOutput = { readonly name: string; readonly isBinary: boolean };

export type InferRequest = {
  readonly id: string | null;
  /** Of the request as a whole; null: none was given. */
  readonly timeoutMs: number | null;
  readonly tensors: readonly Tensor[];
  /** null: all outputs. */
  readonly outputs: readonly WantedOutput[] | null;
  /** The form of outputs that say nothing of their own. */
  readonly isBinary: boolean;
};

type Members = Readonly<Record<string, unknown>>;

const TENSORS_MAX = 4096;
const ID_CHARACTERS_MAX = 1024;
/** As long as any deadline may be. */
const TIMEOUT_US_MAX = 400 * 86_400_000 * 1000;

const refuse = (field: string, what: string): never => {
  throw new SluiceError('invalid_request', `${field} ${what}`, { field });
};

const isMembers = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const requestId = (id: unknown): string | null => {
  if (id === undefined || id === null || id === '') return null;
  if (typeof id === 'string' && id.length <= ID_CHARACTERS_MAX) return id;
  return refuse('id', `is no string of at most ${ID_CHARACTERS_MAX} characters`);
};

/** Triton's parameter: microseconds until nobody wants the answer any more. */
export const timeoutMs = (value: unknown): number | null => {
  if (value === undefined || value === null) return null;
  const isTime = Number.isInteger(value) && (value as number) >= 0 && (value as number) <= TIMEOUT_US_MAX;
  if (!isTime)
    return refuse(
      'parameters.timeout',
      `is ${JSON.stringify(value)?.slice(0, 40)}; give whole microseconds, at most ${TIMEOUT_US_MAX}; 0: none`,
    );
  return value === 0 ? null : Math.max(1, Math.ceil((value as number) / 1000));
};

const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');

/** @param what is parsed, as an error begins with it */
const parsed = (bytes: Uint8Array, what: string): Members => {
  let value: unknown;
  try {
    if (!isUtf8(bytes)) throw new SluiceError('invalid_json', `${what} is not valid UTF-8.`);
    value = JSON.parse(textOf(bytes));
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw new SluiceError('invalid_json', `${what} does not parse: ${(error as Error).message}.`);
  }
  if (!isMembers(value)) throw new SluiceError('invalid_json', `${what} is not an object.`);
  return value;
};

/** Binary tensors lie one behind the other, in the order of the inputs. */
class BinaryPart {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(name: string, size: unknown): Uint8Array {
    const left = this.#bytes.byteLength - this.#at;
    if (!Number.isInteger(size) || (size as number) < 0)
      return refuseInput(
        name,
        `has the binary_data_size ${JSON.stringify(size)?.slice(0, 40)}; give its bytes`,
      );
    if ((size as number) > left)
      return refuseInput(name, `has the binary_data_size ${size}, and ${left} bytes are left of the body`);
    const start = this.#at;
    this.#at += size as number;
    return this.#bytes.subarray(start, this.#at);
  }

  end(): void {
    const left = this.#bytes.byteLength - this.#at;
    if (left > 0) refuse('binary_data_size', `leaves ${left} bytes of the body that belong to no input`);
  }
}

/** Where the JSON ends: `inference-header-content-length`, or the whole body. */
const jsonLength = (body: Uint8Array, header: string | undefined): number => {
  if (header === undefined) return body.byteLength;
  const length = /^\d{1,15}$/.test(header) ? Number(header) : -1;
  if (length < 0 || length > body.byteLength)
    return refuse(
      'Inference-Header-Content-Length',
      `is ${JSON.stringify(header.slice(0, 40))}; give the bytes of JSON in the body of ${body.byteLength}`,
    );
  return length;
};

const parametersOf = (given: unknown, where: string): Members => {
  if (given === undefined || given === null) return {};
  return isMembers(given) ? given : refuse(`${where}.parameters`, 'is no object');
};

const flag = (value: unknown, field: string, fallback: boolean): boolean => {
  if (value === undefined || value === null) return fallback;
  return typeof value === 'boolean' ? value : refuse(field, 'is neither true nor false');
};

const list = (value: unknown, field: string): readonly Members[] => {
  if (!Array.isArray(value) || value.length > TENSORS_MAX || !value.every(isMembers))
    return refuse(field, `is no list of at most ${TENSORS_MAX} tensors, each an object`);
  return value as readonly Members[];
};

const outputsOf = (given: unknown, isBinary: boolean): readonly WantedOutput[] | null => {
  if (given === undefined || given === null) return null;
  const outputs = list(given, 'outputs').map((output, i): WantedOutput => {
    const parameters = parametersOf(output.parameters, `outputs[${i}]`);
    if (parameters.classification !== undefined || parameters.shared_memory_region !== undefined)
      return refuse(
        `outputs[${i}].parameters`,
        'asks for classification or shared memory, which are not offered',
      );
    if (typeof output.name !== 'string') return refuse(`outputs[${i}].name`, 'is no string');
    const own = flag(parameters.binary_data, `outputs[${i}].parameters.binary_data`, isBinary);
    return { name: output.name, isBinary: own };
  });
  return outputs.length === 0 ? null : outputs;
};

/** The members of a body that are tensors: `inputs` of a request, `outputs` of an answer. */
type Tensors = { readonly field: 'inputs' | 'outputs'; readonly given: unknown; readonly json: Uint8Array };

const tensorsOf = ({ field, given, json }: Tensors, binary: BinaryPart): readonly Tensor[] => {
  let exact: readonly Members[] | null = null;
  const dataOf = ({ datatype }: TensorHead, { data }: Members, at: number): unknown => {
    if ((datatype !== 'INT64' && datatype !== 'UINT64') || !hasRounded(data)) return data;
    exact ??= (exactlyParsed(textOf(json)) as Readonly<Record<string, readonly Members[]>>)[field]!;
    return exact[at]!.data;
  };
  const tensors = list(given, field).map((input, at) => {
    const head = tensorHead(input, at);
    const own = parametersOf(input.parameters, `${field}[${at}]`);
    if (own.shared_memory_region !== undefined)
      return refuseInput(head.name, 'lies in shared memory, which is not offered; send its data');
    if (own.binary_data_size === undefined) return jsonTensor(head, dataOf(head, input, at));
    if (input.data !== undefined) return refuseInput(head.name, 'has both data and binary data');
    return binaryTensor(head, binary.take(head.name, own.binary_data_size));
  });
  binary.end();
  return tensors;
};

/**
 * The outputs of another server's answer.
 * @param header of `inference-header-content-length`
 * @throws SluiceError `invalid_json`, `invalid_request` naming the member or the output
 */
export const inferOutputs = (body: Uint8Array, header: string | undefined): readonly Tensor[] => {
  const length = jsonLength(body, header);
  const json = body.subarray(0, length);
  const { outputs: given } = parsed(json, 'its JSON');
  if (given === undefined) return refuse('outputs', 'is missing; an answer has a list of tensors');
  return tensorsOf({ field: 'outputs', given, json }, new BinaryPart(body.subarray(length)));
};

/**
 * @param header of `inference-header-content-length`
 * @throws SluiceError `invalid_json`, `invalid_request` naming the member or the input
 */
export const inferRequest = (body: Uint8Array, header: string | undefined): InferRequest => {
  const length = jsonLength(body, header);
  const json = body.subarray(0, length);
  const { id, inputs, outputs, parameters: given } = parsed(json, 'The JSON of the request');
  const parameters = parametersOf(given, 'request');
  const isBinary = flag(parameters.binary_data_output, 'parameters.binary_data_output', false);
  const binary = new BinaryPart(body.subarray(length));
  if (inputs === undefined) return refuse('inputs', 'is missing; give a list of tensors');
  const tensors = tensorsOf({ field: 'inputs', given: inputs, json }, binary);
  return {
    id: requestId(id),
    timeoutMs: timeoutMs(parameters.timeout),
    tensors,
    outputs: outputsOf(outputs, isBinary),
    isBinary,
  };
};
