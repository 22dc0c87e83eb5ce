/** Answers to inference requests over HTTP: one JSON object, and behind it the tensors that are asked for in binary form. */
import { SluiceError } from '../../errors/sluice-error.ts';
import { type Tensor, tensorBytes } from './tensor.ts';
import { dataBinary, dataJson } from './tensor-output.ts';

/** JSON text is up to six times as long as a tensor's bytes, and the longest string of the engine is 512 MiB. */
const JSON_BYTES_MAX = 64 * 2 ** 20;

export type InferAnswer = {
  readonly chunks: readonly Uint8Array[];
  readonly bytes: number;
  /** Bytes of JSON before the binary tensors; null where there are none. */
  readonly jsonBytes: number | null;
};

export type AnswerHead = { readonly model: string; readonly version: string; readonly id: string | null };

/** @throws SluiceError `not_acceptable` */
export const inferAnswer = (
  { model, version, id }: AnswerHead,
  tensors: readonly Tensor[],
  isBinary: (name: string) => boolean,
): InferAnswer => {
  const inText = tensors.reduce((sum, one) => sum + (isBinary(one.name) ? 0 : tensorBytes(one)), 0);
  if (inText > JSON_BYTES_MAX)
    throw new SluiceError(
      'not_acceptable',
      `the answer has ${inText} bytes, more than ${JSON_BYTES_MAX} for JSON; ask for binary data`,
    );
  const { members, binary } = writtenTensors(tensors, isBinary);
  const named = `"model_name":${JSON.stringify(model)},"model_version":${JSON.stringify(version)}`;
  const own = id === null ? '' : `,"id":${JSON.stringify(id)}`;
  const json = Buffer.from(`{${named}${own},"outputs":[${members.join()}]}`);
  return inferBody(json, binary);
};

/** Tensors as members of a request or an answer, each with its data or, behind the JSON, its bytes. */
export const writtenTensors = (tensors: readonly Tensor[], isBinary: (name: string) => boolean) => {
  const binary: Uint8Array[] = [];
  const members = tensors.map((tensor) => {
    const { name, datatype, shape } = tensor;
    const head = `{"name":${JSON.stringify(name)},"datatype":"${datatype}","shape":[${shape.join()}]`;
    if (!isBinary(name)) return `${head},"data":${dataJson(tensor)}}`;
    const bytes = dataBinary(tensor);
    binary.push(bytes);
    return `${head},"parameters":{"binary_data_size":${bytes.byteLength}}}`;
  });
  return { members, binary };
};

export const inferBody = (json: Uint8Array, binary: readonly Uint8Array[]): InferAnswer => {
  const chunks = [json, ...binary];
  return {
    chunks,
    bytes: chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0),
    jsonBytes: binary.length === 0 ? null : json.byteLength,
  };
};
