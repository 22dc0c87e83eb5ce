/** Compressed request bodies: what comes out of them is counted while it does, and ends at the limit. */
import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { HeldBody } from './body-budget.ts';

type Done = (error: Error | null, body?: Buffer) => void;

const DECODERS: Readonly<Record<string, () => Transform>> = {
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
export const decoderOf = (encoding: string): (() => Transform) => {
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

/** `body` is given up: from here its bytes do not count. */
export const decodeBody = (body: Buffer, how: Decoding, done: Done): void => {
  const { encoding, limitBytes, tooLarge, held } = how;
  const decoder = decoderOf(encoding)();
  const chunks: Buffer[] = [];
  let bytes = 0;
  let isDone = false;
  const finish = (error: Error | null): void => {
    if (isDone) return;
    isDone = true;
    held?.drop(body.length);
    decoder.destroy();
    if (error === null) done(null, Buffer.concat(chunks, bytes));
    else done(error);
  };
  decoder.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    const refusal = bytes > limitBytes ? tooLarge() : held?.add(chunk.length);
    if (refusal != null) finish(refusal);
    else chunks.push(chunk);
  });
  decoder.on('end', () => finish(null));
  decoder.on('error', ({ message }) =>
    finish(new SluiceError('invalid_request', `The body does not decode as ${encoding}: ${message}.`)),
  );
  decoder.end(body);
};
