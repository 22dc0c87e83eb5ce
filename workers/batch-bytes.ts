/** What goes to a handler and what came back, as Arrow bytes; shared/arrow does the work. */
import {
  type ArrowStream,
  buildInput,
  checkOutput,
  type InputPart,
  type InputStream,
  joinedStream,
} from '../shared/arrow/index.ts';
import type { FunctionSpec, FunctionVersion } from '../shared/domain/function.ts';
import type { RefusedRow } from '../shared/domain/retry.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import { sharedBytes } from '../shared/runtime/shared-bytes.ts';
import type { BatchCall, LeasedBatch } from '../shared/store/ports/queue.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext, HandlerOutput } from './handler.ts';

const END_OF_STREAM = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/**
 * The batch for its handler, or the failure of a batch with a payload that cannot be read: such a row fails alike in
 * every run, so isolation looks for it at once.
 */
export const batchOf = (
  leased: LeasedBatch,
  rows: number,
  spec: FunctionSpec,
): HandlerBatch | HandlerAnswer => {
  try {
    return { rows, parts: inputOf(leased, spec) };
  } catch (cause) {
    const message = `the rows could not be read as the function's input: ${messageOf(cause)}`;
    return { end: 'error', error: { code: 'internal', message }, mro: [], isFinal: true };
  }
};

/** The batch's rows as Arrow streams in row order. */
const inputOf = (leased: LeasedBatch, spec: FunctionSpec): InputStream[] => {
  const payloads = new Map(leased.calls.map(({ callId, payload }) => [callId, payload]));
  const parts = leased.slices.map(({ callId, from, count }): InputPart => {
    const payload = payloads.get(callId);
    if (!payload) throw new SluiceError('internal', `batch ${leased.batchId} came without call ${callId}`);
    return { payload, from, count };
  });
  return buildInput(parts, spec.inputs);
};

export const batchBytes = ({ parts }: HandlerBatch): number =>
  parts.reduce((bytes, part) => bytes + part.byteLength, 0);

/** The batch as one stream of one record batch, for handlers that take no other. */
export const batchStream = ({ parts }: HandlerBatch, inputs: FunctionSpec['inputs']): Uint8Array =>
  joinedStream(
    parts.map(({ bytes }) => bytes),
    inputs,
  );

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const earliestDeadline = (calls: readonly BatchCall[]): number | null => {
  let earliest: number | null = null;
  for (const { deadlineAt } of calls) {
    if (deadlineAt !== null && (earliest === null || deadlineAt < earliest)) earliest = deadlineAt;
  }
  return earliest;
};

export type ContextSource = {
  readonly version: FunctionVersion;
  readonly traceparent: string | null;
  readonly wantsCalls: boolean;
  /** A call's id as the outside knows it. */
  readonly callIdText: (callId: number) => string;
};

export const contextOf = (leased: LeasedBatch, source: ContextSource): HandlerContext => ({
  functionName: source.version.spec.name,
  version: source.version.digest,
  batchId: leased.batchId,
  attempt: leased.attempts + 1,
  calls: source.wantsCalls
    ? leased.calls.map(({ callId, rows, metadata }) => ({
        callId: source.callIdText(callId),
        rows,
        metadata,
      }))
    : [],
  deadlineAt: earliestDeadline(leased.calls),
  traceparent: source.traceparent,
});

/** Record batches of streams with one schema, behind one schema message. */
const joinStreams = (streams: readonly ArrowStream[]): Uint8Array => {
  const first = streams[0] as ArrowStream;
  const chunks: Uint8Array[] = [first.schemaMessage];
  for (const { bytes, schemaMessage, batches } of streams) {
    const last = batches.at(-1)?.message;
    if (!last) continue;
    chunks.push(bytes.subarray(schemaMessage.length, last.byteOffset + last.byteLength - bytes.byteOffset));
  }
  chunks.push(END_OF_STREAM);
  const joined = sharedBytes(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
};

const refusedOf = (outputs: readonly HandlerOutput[]): RefusedRow[] => {
  const refused = new Map<number, RefusedRow>();
  let from = 0;
  for (const output of outputs) {
    for (const { row, error } of output.refused) {
      if (!Number.isInteger(row) || row < 0 || row >= output.rows) {
        throw new SluiceError(
          'handler_output_invalid',
          `the handler refused row ${row} of an answer of ${output.rows} rows`,
        );
      }
      refused.set(from + row, { row: from + row, error });
    }
    from += output.rows;
  }
  return [...refused.values()].sort((a, b) => a.row - b.row);
};

/** Bytes of a handler may be anything; whatever reading them throws is that handler's failure. */
const checkedStream = ({ stream, rows }: HandlerOutput, expected: FunctionSpec['output']): ArrowStream => {
  try {
    return checkOutput(stream, expected, rows);
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw new SluiceError('handler_output_invalid', `the answer is no Arrow stream: ${messageOf(error)}`);
  }
};

/**
 * Checks an answer: n rows in, n rows out, of the declared type.
 * @throws SluiceError `handler_output_invalid` naming what differs
 */
export const outputOf = (
  outputs: readonly HandlerOutput[],
  rows: number,
  spec: FunctionSpec,
): { output: Uint8Array; refused: RefusedRow[] } => {
  const returned = outputs.reduce((sum, output) => sum + output.rows, 0);
  if (returned !== rows) {
    throw new SluiceError(
      'handler_output_invalid',
      `the handler got ${rows} rows and returned ${returned}; it must return one value for each row`,
    );
  }
  const refused = refusedOf(outputs);
  // Refused rows are null in the answer, also where the output is not nullable.
  const expected = { type: spec.output.type, nullable: spec.output.nullable || refused.length > 0 };
  const streams = outputs.map((output) => checkedStream(output, expected));
  const [only] = streams;
  return { output: streams.length === 1 && only ? only.bytes : joinStreams(streams), refused };
};
