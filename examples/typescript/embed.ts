/** A TypeScript function: texts to vectors by feature hashing, the embedding that needs no model. */
import { createHash } from 'node:crypto';
import { defineFunction, t } from '@sluice/sdk';

const DIMENSIONS = 64;

const vectorOf = (text: string): Float32Array => {
  const vector = new Float32Array(DIMENSIONS);
  for (const word of text.toLowerCase().match(/\p{L}+/gu) ?? []) {
    const digest = createHash('sha256').update(word).digest();
    const at = digest.readUInt16LE(0) % DIMENSIONS;
    vector[at] = vector[at]! + (digest[2]! & 1 ? 1 : -1);
  }
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
};

export const hashEmbed = defineFunction(
  {
    name: 'hash-embed',
    inputs: { text: t.string() },
    output: t.list(t.float32()),
    maxBatchingSize: 256,
    maxBufferDuration: 20,
    retries: 2,
  },
  ({ text }) => text.map(vectorOf),
);
