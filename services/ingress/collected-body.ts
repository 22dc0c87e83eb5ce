/**
 * A request's body in one piece. A large Arrow stream of a known length is read into memory that threads share: on its
 * way to the store it is not copied again, and the collector has half as many dead bytes to look after.
 */
import type { IncomingMessage } from 'node:http';
import { sharedBytes } from '../../shared/runtime/shared-bytes.ts';
import type { Slab } from '../../shared/runtime/slab.ts';
import type { HeldBody } from './body-budget.ts';

/** Smaller ones travel as copies. */
const SHARED_BYTES_MIN = 65_536;
/** Where a body of unknown length begins; its room doubles. */
const ROOM_BYTES_MIN = 16 * 1024;

type Done = (error: Error | null, body?: Buffer) => void;

/** Ends the collecting of a body that is not whole, with the error that its sender is told. */
export type Cut = (error: Error) => void;

export type Collecting = {
  readonly limitBytes: number;
  readonly tooLarge: () => Error;
  /** It may travel to other threads as it is. */
  readonly isShared: boolean;
  /** null: it does not count. */
  readonly held: HeldBody | null;
  /** Bodies that are not whole yet. */
  readonly underWay: Slab<Cut>;
};

/** What a body is collected in. */
interface Sink {
  /** False: it is larger than it may be. */
  add(chunk: Buffer): boolean;
  end(): Buffer | null;
}

/** Room of the length that a head names, at which Node ends the body; null where there is none: a head is only a claim. */
const roomFor = (length: number, isShared: boolean): Buffer | null => {
  try {
    return isShared && length >= SHARED_BYTES_MIN
      ? Buffer.from(sharedBytes(length).buffer)
      : Buffer.allocUnsafe(length);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
};

const ofLength = (length: number, isShared: boolean): Sink | null => {
  const body = roomFor(length, isShared);
  if (body === null) return null;
  let filled = 0;
  return {
    add: (chunk) => {
      filled += chunk.copy(body, filled);
      return true;
    },
    end: () => (filled === length ? body : null),
  };
};

/** Not a list of the chunks: a sender who chooses tiny ones would make each cost many times its bytes. */
const ofAnyLength = (limitBytes: number): Sink => {
  let body = Buffer.allocUnsafe(Math.min(ROOM_BYTES_MIN, limitBytes));
  let filled = 0;
  return {
    add: (chunk) => {
      const bytes = filled + chunk.length;
      if (bytes > limitBytes) return false;
      if (bytes > body.length) {
        const larger = Buffer.allocUnsafe(Math.min(limitBytes, Math.max(bytes, body.length * 2)));
        body.copy(larger, 0, 0, filled);
        body = larger;
      }
      filled += chunk.copy(body, filled);
      return true;
    },
    end: () => body.subarray(0, filled),
  };
};

/** What is left of a body that is refused is not read. */
export const collectBody = (payload: IncomingMessage, how: Collecting, done: Done): void => {
  const { limitBytes, tooLarge, held, underWay } = how;
  const length = Number(payload.headers['content-length'] ?? Number.NaN);
  if (length > limitBytes) {
    done(tooLarge());
    return;
  }
  const sink = (length >= 0 ? ofLength(length, how.isShared) : null) ?? ofAnyLength(limitBytes);
  const finish = (error: Error | null): void => {
    underWay.remove(key);
    payload.off('data', add);
    payload.off('end', end);
    payload.off('error', fail);
    const body = error === null ? sink.end() : null;
    if (body !== null) done(null, body);
    else done(error ?? cutShort('The body is shorter than its content-length.'));
  };
  const add = (chunk: Buffer): void => {
    const refusal = held?.add(chunk.length) ?? null;
    if (refusal !== null) finish(refusal);
    else if (!sink.add(chunk)) finish(tooLarge());
  };
  const end = (): void => finish(null);
  const fail = (error: Error): void => finish(cutShort(error.message));
  const key = underWay.insert(finish);
  payload.on('data', add);
  payload.on('end', end);
  payload.on('error', fail);
};

const cutShort = (message: string): Error => Object.assign(new Error(message), { statusCode: 400 });
