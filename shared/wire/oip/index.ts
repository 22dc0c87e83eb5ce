/** The Open Inference Protocol: tensors from and to Arrow, and requests and answers over HTTP. gRPC's are in services/ingress/oip. */
export {
  columnTensors,
  type Output,
  type OutputRun,
  outputFields,
  outputTensors,
  tensorMetadata,
} from './column-tensors.ts';
export { type Datatype, datatypeOf } from './datatypes.ts';
export { type AnswerHead, type InferAnswer, inferAnswer, inferBody, writtenTensors } from './infer-answer.ts';
export {
  type InferRequest,
  inferOutputs,
  inferRequest,
  requestId,
  timeoutMs,
  type WantedOutput,
} from './infer-request.ts';
export { type Tensor, type TensorHead, tensorBytes, tensorHead } from './tensor.ts';
export { type TensorRows, tensorRows } from './tensor-columns.ts';
export { binaryTensor, typedTensor } from './tensor-input.ts';
export { dataBinary, elementsOf } from './tensor-output.ts';
