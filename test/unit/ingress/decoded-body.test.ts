import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { decodeBody } from '../../../services/ingress/decoded-body.ts';

const LIMIT = 1_000_000;

const decoded = (encoding: string, ...parts: Buffer[]): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const how = { encoding, limitBytes: LIMIT, tooLarge: () => new Error('too large'), held: null };
    decodeBody(Buffer.concat(parts), how, (error, body) => (error ? reject(error) : resolve(body!)));
  });

const [A, B] = [Buffer.alloc(300_000, 'a'), Buffer.from('and the rest')];

it.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)('takes a %s body of several frames whole', async (encoding, compress) => {
  expect(await decoded(encoding, compress(A), compress(B), compress(A))).toEqual(Buffer.concat([A, B, A]));
  await expect(decoded(encoding, ...new Array(4).fill(compress(A)))).rejects.toThrow('too large');
});

it.each([
  ['gzip', gzipSync, /does not decode as gzip/],
  ['zstd', zstdCompressSync, /does not decode as zstd/],
  ['br', brotliCompressSync, /does not decode as br: 8 bytes stand behind its end/],
  ['deflate', deflateSync, /does not decode as deflate: 8 bytes stand behind its end/],
] as const)('refuses what is no %s behind the end', async (encoding, compress, message) => {
  expect(await decoded(encoding, compress(A))).toEqual(A);
  await expect(decoded(encoding, compress(A), Buffer.from('JUNKJUNK'))).rejects.toThrow(message);
  await expect(decoded(encoding, compress(A).subarray(0, -2))).rejects.toThrow(/does not decode/);
});

it('refuses frames without number', async () => {
  const frame = zstdCompressSync(Buffer.alloc(0));
  await expect(decoded('zstd', ...new Array(10_001).fill(frame))).rejects.toThrow(/more than 10000 frames/);
});
