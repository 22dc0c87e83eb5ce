/** Lines of a batch's output and error files, as OpenAI's have them. */
import type { SluiceError } from '../../shared/errors/sluice-error.ts';
import { openaiError, openaiStatus } from '../../shared/wire/openai/openai-error.ts';

/** The same for a line each time, so that what is written again after a crash is the same. */
const requestId = (batchId: string, line: number): string => `batch_req_${batchId.slice(6)}_${line}`;

const lineOf = (batchId: string, line: number, customId: string | null, tail: string): Buffer =>
  Buffer.from(
    `{"id":${JSON.stringify(requestId(batchId, line))},"custom_id":${JSON.stringify(customId)},${tail}}\n`,
  );

const response = (status: number, id: string, body: string): string =>
  `"response":{"status_code":${status},"request_id":${JSON.stringify(id)},"body":${body}},"error":null`;

/** `body`: JSON text. */
export const answeredLine = (batchId: string, line: number, customId: string, body: string): Buffer =>
  lineOf(batchId, line, customId, response(200, requestId(batchId, line), body));

/** A request that was answered with an error, as the route itself would answer it. */
export const refusedLine = (
  batchId: string,
  line: number,
  customId: string | null,
  error: SluiceError,
): Buffer => {
  const status = openaiStatus(error);
  const body = JSON.stringify(openaiError(error, status));
  return lineOf(batchId, line, customId, response(status, requestId(batchId, line), body));
};

export type StopCode = 'batch_cancelled' | 'batch_expired';

const STOPS: Readonly<Record<StopCode, string>> = {
  batch_cancelled: 'The batch was cancelled before this request was answered.',
  batch_expired: "The batch's completion window passed before this request was answered.",
};

/** A request that was never answered. */
export const stoppedLine = (batchId: string, line: number, customId: string | null, code: StopCode): Buffer =>
  lineOf(
    batchId,
    line,
    customId,
    `"response":null,"error":${JSON.stringify({ code, message: STOPS[code] })}`,
  );
