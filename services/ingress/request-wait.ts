/** A request that waits for a call: its disconnect frees the wait and cancels nothing. */
import type { ServerResponse } from 'node:http';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { CallEvent } from '../../shared/store/ports/queue.ts';
import type { Room } from './room.ts';

/**
 * Resolves at the call's end, with null when the time is over, the caller has gone, or the server drains.
 * @throws SluiceError `data_lost` where the call was lost
 */
export const requestWait = (
  room: Room,
  callId: number,
  waitMs: number,
  response: ServerResponse,
  interest: 'end' | 'result',
): Promise<CallEvent | null> =>
  new Promise((resolve, reject) => {
    // Who left while the call was read has no close to come.
    if (response.destroyed) return resolve(null);
    const onClose = (): void => {
      wait.cancel();
      resolve(null);
    };
    const wait = room.waits.wait(
      callId,
      waitMs,
      (end) => {
        response.off('close', onClose);
        if (end instanceof SluiceError) reject(end);
        else resolve(end);
      },
      interest,
    );
    response.on('close', onClose);
  });
