/** Compressed request bodies: what comes out of them is counted while it does, and ends at the limit. */
import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { HeldBody } from './body-budget.ts';

type Done = (error: Error | null, body?: Buffer) => void;

/** `bytesWritten`: what it has read of its input. */
type Decoder = Transform & { readonly bytesWritten: number };

const DECODERS: Readonly<Record<string, () => Decoder>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  zstd: createZstdDecompress,
  br: createBrotliDecompress,
};

/** The encoding that a body is in; null: none. */
export const encodingOf = (header: string | undefined): string | null => {
  const encoding = header?.trim().toLowerCase();
  return encoding === undefined || encoding === 'identity' ? null : encoding;
};

/** @throws SluiceError `unsupported_media_type` */
export const decoderOf = (encoding: string): (() => Decoder) => {
  if (Object.hasOwn(DECODERS, encoding)) return DECODERS[encoding]!;
  const known = Object.keys(DECODERS).join(', ');
  const shown = JSON.stringify(encoding.slice(0, 64));
  throw new SluiceError('unsupported_media_type', `Content-Encoding is ${shown}; use one of ${known}.`, {
    field: 'content-encoding',
  });
};

export type Decoding = {
  readonly encoding: string;
  readonly limitBytes: number;
  readonly tooLarge: () => Error;
  readonly held: HeldBody | null;
};

/** A frame for each flush of a writer, or for each core of pzstd; more, and smaller ones, are there to cost time. */
const FRAMES_MAX = 10_000;

type Frame = { readonly error: Error | null; readonly bytesRead: number };

/** Decodes up to the end of what the encoding calls whole; `take` returns why a piece may not be held. */
const decodeFrame = (
  encoding: string,
  body: Buffer,
  take: (chunk: Buffer) => Error | null,
  done: (frame: Frame) => void,
): void => {
  const decoder = decoderOf(encoding)();
  let isDone = false;
  const finish = (error: Error | null): void => {
    if (isDone) return;
    isDone = true;
    decoder.destroy();
    done({ error, bytesRead: decoder.bytesWritten });
  };
  decoder.on('data', (chunk: Buffer) => {
    const refusal = take(chunk);
    if (refusal !== null) finish(refusal);
  });
  decoder.on('end', () => finish(null));
  decoder.on('error', ({ message }) => finish(undecodable(encoding, message)));
  decoder.end(body);
};

const undecodable = (encoding: string, why: string): SluiceError =>
  new SluiceError('invalid_request', `The body does not decode as ${encoding}: ${why}.`, {
    field: 'content-encoding',
  });

/** `body` is given up: from here its bytes do not count. */
export const decodeBody = (body: Buffer, how: Decoding, done: Done): void => {
  const { encoding, limitBytes, tooLarge, held } = how;
  const chunks: Buffer[] = [];
  let bytes = 0;
  let frames = 0;
  const take = (chunk: Buffer): Error | null => {
    bytes += chunk.length;
    const refusal = bytes > limitBytes ? tooLarge() : held?.add(chunk.length);
    chunks.push(chunk);
    return refusal ?? null;
  };
  const finish = (error: Error | null): void => {
    held?.drop(body.length);
    if (error === null) done(null, Buffer.concat(chunks, bytes));
    else done(error);
  };
  const decode = (rest: Buffer): void => {
    frames += 1;
    decodeFrame(encoding, rest, take, ({ error, bytesRead }) => {
      if (error !== null || bytesRead >= rest.length) finish(error);
      // Node reads on by itself where a second member may follow, but for zstd, whose frames are as good (RFC 8878).
      else if (encoding !== 'zstd')
        finish(undecodable(encoding, `${rest.length - bytesRead} bytes stand behind its end`));
      else if (frames === FRAMES_MAX) finish(undecodable(encoding, `it has more than ${FRAMES_MAX} frames`));
      else decode(rest.subarray(bytesRead));
    });
  };
  decode(body);
};
