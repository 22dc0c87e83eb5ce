/** Messages of `inference.GRPCInferenceService` as they are decoded, and their tensors. */
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import {
  binaryTensor,
  type Datatype,
  dataBinary,
  elementsOf,
  requestId,
  type Tensor,
  tensorBytes,
  tensorHead,
  timeoutMs,
  typedTensor,
} from '../../../shared/wire/oip/index.ts';

/** 64-bit integers come as texts of digits. */
type Parameter = {
  readonly bool_param?: boolean;
  readonly int64_param?: string;
  readonly uint64_param?: string;
  readonly double_param?: number;
  readonly string_param?: string;
};
type Parameters = Readonly<Record<string, Parameter>>;

const CONTENTS = {
  BOOL: 'bool_contents',
  INT8: 'int_contents',
  INT16: 'int_contents',
  INT32: 'int_contents',
  INT64: 'int64_contents',
  UINT8: 'uint_contents',
  UINT16: 'uint_contents',
  UINT32: 'uint_contents',
  UINT64: 'uint64_contents',
  FP16: null,
  FP32: 'fp32_contents',
  FP64: 'fp64_contents',
  BYTES: 'bytes_contents',
} as const satisfies Record<Datatype, string | null>;

type ContentsName = Exclude<(typeof CONTENTS)[Datatype], null>;
type Contents = Readonly<Partial<Record<ContentsName, readonly unknown[]>>>;

export type ModelQuestion = { readonly name: string; readonly version: string };

export type ModelInferRequest = {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: Parameters;
  readonly inputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly string[];
    readonly parameters: Parameters;
    readonly contents: Contents | null;
  }[];
  readonly outputs: readonly { readonly name: string; readonly parameters: Parameters }[];
  readonly raw_input_contents: readonly Uint8Array[];
};

export type GrpcInference = {
  readonly id: string | null;
  readonly timeoutMs: number | null;
  readonly tensors: readonly Tensor[];
  /** null: all. */
  readonly wanted: ReadonlySet<string> | null;
  /** Answers come in the form of their request. */
  readonly isRaw: boolean;
};

const refuse = (field: string, what: string): never => {
  throw new SluiceError('invalid_request', `${field} ${what}`, { field });
};

const numberOf = (parameter: Parameter | undefined): unknown => {
  if (parameter === undefined) return null;
  const { int64_param: signed, uint64_param: unsigned, double_param: double, string_param: text } = parameter;
  const digits = signed ?? unsigned ?? text;
  if (digits === undefined) return double ?? parameter;
  return /^-?\d{1,20}$/.test(digits) ? Number(digits) : digits;
};

/** @throws SluiceError `invalid_request` naming the input */
export const grpcInference = (request: ModelInferRequest): GrpcInference => {
  const { inputs, outputs, raw_input_contents: raw, parameters } = request;
  const isRaw = raw.length > 0;
  if (isRaw && raw.length !== inputs.length)
    refuse('raw_input_contents', `has ${raw.length} tensors, inputs has ${inputs.length}; send one for each`);
  const tensors = inputs.map((input, at): Tensor => {
    const head = tensorHead({ ...input, shape: input.shape.map(Number) }, at);
    const { name, datatype } = head;
    if (input.parameters.shared_memory_region !== undefined)
      refuse(`input ${JSON.stringify(name)}`, 'lies in shared memory, which is not offered; send its data');
    if (isRaw) {
      if (input.contents !== null)
        refuse(`input ${JSON.stringify(name)}`, 'has both contents and raw contents');
      return binaryTensor(head, raw[at]!);
    }
    return typedTensor(head, contentsOf(name, datatype, input.contents ?? {}));
  });
  return {
    id: requestId(request.id),
    timeoutMs: timeoutMs(numberOf(parameters.timeout)),
    tensors,
    wanted: outputs.length === 0 ? null : new Set(outputs.map(({ name }) => name)),
    isRaw,
  };
};

const contentsOf = (name: string, datatype: Datatype, contents: Contents): readonly unknown[] => {
  const member = CONTENTS[datatype];
  if (member === null)
    return refuse(
      `input ${JSON.stringify(name)}`,
      `is ${datatype}, which has no contents; send raw_input_contents`,
    );
  for (const [other, values] of Object.entries(contents))
    if (other !== member && values.length > 0)
      refuse(`input ${JSON.stringify(name)}`, `is ${datatype} and has ${other}; send ${member}`);
  return contents[member] ?? [];
};

/** Elements of typed contents at most: each is a number of its own here and on the client's side. */
const TYPED_BYTES_MAX = 32 * 2 ** 20;

export const grpcAnswer = (
  { model, version, id }: { readonly model: string; readonly version: string; readonly id: string | null },
  tensors: readonly Tensor[],
  isRaw: boolean,
): object => {
  const bytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  const isTyped =
    !isRaw && bytes <= TYPED_BYTES_MAX && tensors.every(({ datatype }) => CONTENTS[datatype] !== null);
  return {
    model_name: model,
    model_version: version,
    id: id ?? '',
    outputs: tensors.map((tensor) => ({
      name: tensor.name,
      datatype: tensor.datatype,
      shape: tensor.shape,
      ...(isTyped ? { contents: { [CONTENTS[tensor.datatype]!]: elementsOf(tensor) } } : {}),
    })),
    raw_output_contents: isTyped ? [] : tensors.map(dataBinary),
  };
};
