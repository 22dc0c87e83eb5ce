/**
 * A request's body in one piece. A large one of a known length is read into memory that threads share: on its way to the
 * store it is not copied again, and the collector has half as many dead bytes to look after.
 */
import type { IncomingMessage } from 'node:http';
import { sharedBytes } from '../../shared/runtime/shared-bytes.ts';

/** Smaller ones travel as copies. */
const SHARED_BYTES_MIN = 65_536;

type Done = (error: Error | null, body?: Buffer) => void;

/** What a body is collected in. */
interface Sink {
  /** False: it is larger than it may be. */
  add(chunk: Buffer): boolean;
  end(): Buffer | null;
}

/** Room of the length that a head names, at which Node ends the body; null where there is none: a head is only a claim. */
const roomFor = (length: number): Buffer | null => {
  try {
    return Buffer.from(sharedBytes(length).buffer);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
};

const ofLength = (length: number): Sink | null => {
  const body = roomFor(length);
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

const ofAnyLength = (limitBytes: number): Sink => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return {
    add: (chunk) => {
      bytes += chunk.length;
      chunks.push(chunk);
      return bytes <= limitBytes;
    },
    end: () => Buffer.concat(chunks),
  };
};

/** `tooLarge` is made when the body is larger than `limitBytes`; what is left of it is not read. */
export const collectBody = (
  payload: IncomingMessage,
  limitBytes: number,
  tooLarge: () => Error,
  done: Done,
): void => {
  const { headers } = payload;
  const length = Number(headers['content-length'] ?? Number.NaN);
  if (length > limitBytes) {
    done(tooLarge());
    return;
  }
  const isShared = length >= SHARED_BYTES_MIN && headers['content-encoding'] === undefined;
  const sink = (isShared ? ofLength(length) : null) ?? ofAnyLength(limitBytes);
  const finish = (error: Error | null): void => {
    payload.off('data', add);
    payload.off('end', end);
    payload.off('error', fail);
    const body = error === null ? sink.end() : null;
    if (body !== null) done(null, body);
    else done(error ?? cutShort('The body is shorter than its content-length.'));
  };
  const add = (chunk: Buffer): void => {
    if (!sink.add(chunk)) finish(tooLarge());
  };
  const end = (): void => finish(null);
  const fail = (error: Error): void => finish(cutShort(error.message));
  payload.on('data', add);
  payload.on('end', end);
  payload.on('error', fail);
};

const cutShort = (message: string): Error => Object.assign(new Error(message), { statusCode: 400 });
