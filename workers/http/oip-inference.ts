/**
 * The Open Inference Protocol v2 (https://github.com/kserve/open-inference-protocol): a batch is one request, the first dimension
 * its rows, each column a tensor. The engine's metadata says whether tensors go in binary, and which have dimensions of 1.
 */
import { CastError } from '../../shared/arrow/index.ts';
import type { EngineSpec } from '../../shared/domain/engine.ts';
import type { FieldJson, FunctionSpec } from '../../shared/domain/function.ts';
import { isTooDeep } from '../../shared/errors/nesting.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import {
  columnTensors,
  type InferAnswer,
  inferBody,
  inferOutputs,
  outputFields,
  type Tensor,
  tensorBytes,
  tensorRows,
  writtenTensors,
} from '../../shared/wire/oip/index.ts';
import { batchStream } from '../batch-bytes.ts';
import { outputOfMessage } from '../grpc/answer-columns.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext } from '../handler.ts';
import type { EngineConnection, Reply } from './engine-connection.ts';
import {
  errorAnswer,
  errorText,
  failureOf,
  finalAnswer,
  jsonOf,
  memberOf,
  wrongAnswer,
} from './failed-reply.ts';
import { inferenceHeaders } from './inference-headers.ts';
import { jsonOutput } from './oip-json-output.ts';
import { engineMetadata, NO_METADATA, type OipMetadata, shapedFor } from './oip-metadata.ts';

/** Its text is up to six times as long, and the longest string of our engine is 512 MiB. */
const JSON_BYTES_MAX = 64 * 2 ** 20;
const LENGTH_HEADER = 'inference-header-content-length';

type Parts = {
  readonly connection: EngineConnection;
  readonly spec: FunctionSpec;
  readonly engine: EngineSpec;
};

export class OipInference {
  readonly #parts: Parts;
  readonly #path: string;
  readonly #fields: readonly FieldJson[];
  /** What the model calls them. */
  readonly #names: readonly string[];
  #metadata: OipMetadata = NO_METADATA;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#path = `${parts.engine.basePath}/infer`;
    this.#fields = outputFields(parts.spec.output);
    this.#names = outputFields(parts.spec.output, parts.engine.output).map(({ name }) => name);
  }

  /** Reads what the engine says of itself; one that says nothing gets JSON. Never rejects. */
  async prepare(signal: AbortSignal): Promise<void> {
    const { connection, engine } = this.#parts;
    this.#metadata = await engineMetadata(connection, engine.basePath, signal);
  }

  async infer(batch: HandlerBatch, context: HandlerContext, signal: AbortSignal): Promise<HandlerAnswer> {
    let body: InferAnswer;
    try {
      body = this.#bodyOf(batch, context);
    } catch (error) {
      return unsayable(error);
    }
    const length = body.jsonBytes === null ? {} : { [LENGTH_HEADER]: String(body.jsonBytes) };
    const type = body.jsonBytes === null ? {} : { 'content-type': 'application/octet-stream' };
    const headers = { ...inferenceHeaders(context), ...type, ...length };
    const { connection } = this.#parts;
    const reply = await connection.request({ path: this.#path, body: body.chunks, headers, signal });
    if (reply.status < 200 || reply.status >= 300) return failureOf(reply, this.#path, Date.now());
    return this.#answerOf(reply);
  }

  #bodyOf(batch: HandlerBatch, { batchId, attempt }: HandlerContext): InferAnswer {
    const { isBinary } = this.#metadata;
    const columns = columnTensors(batchStream(batch, this.#parts.spec.inputs));
    const tensors = columns.map((tensor) => shapedFor(tensor, this.#metadata));
    const inText = isBinary ? 0 : tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
    if (inText > JSON_BYTES_MAX)
      throw new CastError(
        `the batch has ${inText} bytes of tensors, more than ${JSON_BYTES_MAX} for JSON: set a smaller max_batch_bytes, or let the engine offer binary_tensor_data`,
      );
    const { members, binary } = writtenTensors(tensors, () => isBinary);
    const wanted = this.#fields.length > 1 ? `,"outputs":[${this.#fields.map(nameJson).join()}]` : '';
    const asked = isBinary ? ',"parameters":{"binary_data_output":true}' : '';
    const id = JSON.stringify(`${batchId}-${attempt}`);
    return inferBody(Buffer.from(`{"id":${id},"inputs":[${members.join()}]${wanted}${asked}}`), binary);
  }

  #answerOf(reply: Reply): HandlerAnswer {
    const error = errorOfBody(reply);
    if (error !== null)
      return errorAnswer(
        'handler_error',
        'EngineError',
        `the engine answered ${reply.status} with an error: ${error}`,
      );
    try {
      const { output: wanted } = this.#parts.spec;
      const answered = inferOutputs(reply.body, reply.header(LENGTH_HEADER));
      const stream =
        wanted.type === 'json'
          ? jsonOutput(answered, wanted)
          : tensorRows(this.#wanted(answered), this.#fields).bytes;
      const output = outputOfMessage(stream, wanted);
      return { end: 'ok', outputs: output === null ? [] : [output] };
    } catch (error) {
      if (!(error instanceof SluiceError) && !isTooDeep(error)) throw error;
      const text = error.message.replace(/^input /, 'output ').replace(/the inputs are/, 'the outputs are');
      return wrongAnswer(this.#path, error, text);
    }
  }

  /** Those that the model declares; an engine may answer more, and call a single one as it likes. */
  #wanted(tensors: readonly Tensor[]): readonly Tensor[] {
    if (tensors.length === 1 && this.#fields.length === 1) return tensors;
    const wanted = tensors.filter(({ name }) => this.#names.includes(name));
    if (wanted.length > 0) return wanted;
    const had = tensors.map(({ name }) => JSON.stringify(name)).join(', ') || 'none';
    throw new SluiceError(
      'schema_mismatch',
      `it has the outputs ${had}, and none of ${this.#names.join(', ')}`,
    );
  }
}

const nameJson = ({ name }: FieldJson): string => `{"name":${JSON.stringify(name)}}`;

/** Servers that answer 200 and an error all the same. An output, or a model, may be called so as well. */
const errorOfBody = ({ body, header }: Reply): string | null => {
  if (header(LENGTH_HEADER) !== undefined || !body.subarray(0, 64).includes('"error"')) return null;
  const error = memberOf(jsonOf(body.toString('utf8')), 'error') ?? '';
  return error === '' ? null : errorText(body);
};

/** What a tensor, or JSON, cannot say of the rows. */
const unsayable = (error: unknown): HandlerAnswer => {
  if (error instanceof CastError || error instanceof RangeError)
    return finalAnswer('TensorError', error.message);
  if (!(error instanceof SluiceError)) throw error;
  const text = error.message
    .replace(/^output /, 'column ')
    .replace(/; a tensor cannot say that: .*$/s, '; a tensor cannot say that');
  return finalAnswer('TensorError', text);
};
