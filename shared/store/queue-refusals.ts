/** What a function's queue refuses, said alike by all stores. */
import { SluiceError } from '../errors/sluice-error.ts';
import type { Admission } from './ports/queue.ts';

export type QueueLimits = { readonly queueRowsMax: number; readonly queueBytesMax: number };

/** What a refused caller waits: long enough that a refusal costs less than it saves, short against any queue. */
const RETRY_AFTER_SECONDS = 2;

type Asked = Pick<Admission, 'functionName' | 'rows' | 'bytes'>;

/** Sealed rows count: those in a long back-off are as many as those that wait. */
export const rowsFull = (
  asked: Asked,
  limits: QueueLimits,
  waiting: number,
  inBatches: number,
): SluiceError =>
  tooLarge(asked, limits) ??
  queueFull(
    asked,
    `${waiting} rows wait and ${inBatches} are in batches, ${asked.rows} more would pass queueRowsMax (${limits.queueRowsMax})`,
  );

export const bytesFull = (asked: Asked, limits: QueueLimits, open: number): SluiceError =>
  tooLarge(asked, limits) ??
  queueFull(
    asked,
    `its unfinished rows have ${Math.round(open)} bytes, ${asked.bytes} more would pass queueBytesMax (${limits.queueBytesMax})`,
  );

const queueFull = ({ functionName }: Asked, detail: string): SluiceError =>
  new SluiceError('queue_full', `The queue of function "${functionName}" is full: ${detail}.`, {
    retry_after_seconds: RETRY_AFTER_SECONDS,
  });

/** A call that no empty queue takes: sent again, it is refused again. */
const tooLarge = ({ functionName, rows, bytes }: Asked, limits: QueueLimits): SluiceError | null => {
  const { queueRowsMax, queueBytesMax } = limits;
  const found =
    rows > queueRowsMax
      ? `${rows} rows, more than queueRowsMax (${queueRowsMax})`
      : bytes > queueBytesMax
        ? `${bytes} bytes, more than queueBytesMax (${queueBytesMax})`
        : null;
  if (found === null) return null;
  return new SluiceError(
    'payload_too_large',
    `The call alone has ${found} allows function "${functionName}" in all; send it as several calls, or raise the limit.`,
  );
};
