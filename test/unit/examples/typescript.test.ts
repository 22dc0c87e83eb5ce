import { expect, test } from 'vitest';
import { hashEmbed } from '../../../examples/typescript/embed.ts';

type Vectors = Float32Array[];
const embed = (...text: string[]): Vectors =>
  hashEmbed({ text }, {} as never, new AbortController().signal) as Vectors;
const similarity = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, value, i) => sum + value * b[i]!, 0);

test('the example function runs locally: one unit vector a row', () => {
  const vectors = embed('a full batch', 'two');
  expect(vectors.map((vector) => vector.length)).toEqual([64, 64]);
  for (const vector of vectors) expect(similarity(vector, vector)).toBeCloseTo(1, 5);
});

test('texts that share words are nearer than texts that share none', () => {
  const [one, alike, other] = embed('the batch is full', 'is the batch full', 'zebras graze');
  expect(similarity(one!, alike!)).toBeCloseTo(1, 5);
  expect(similarity(one!, other!)).toBeLessThan(0.6);
});

test('a text without words is a row of zeros, not NaN', () => {
  expect([...embed('… !')[0]!].every((value) => value === 0)).toBe(true);
});
