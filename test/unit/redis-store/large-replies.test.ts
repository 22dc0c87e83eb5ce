import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ReplyCutter } from '../../../shared/store/redis/large-replies.ts';

const LARGE = 65_536;

const typed = (type: string, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${type}${bytes.length}\r\n`), bytes, Buffer.from('\r\n')]);
const text = (bytes: Buffer): Buffer => typed('$', bytes);

/** Bytes that look like lines and lengths, so that a cutter which loses its place goes astray. */
const filled = (length: number): Buffer => Buffer.alloc(length, '$70000\r\n*3\r\n-1\n');

/** What the cutter says of `stream`, read in steps of these sizes, in turn; small steps while a large text is read as well. */
const cut = (stream: Buffer, steps: readonly number[]): Buffer[] => {
  const chunks: Buffer[] = [];
  const cutter = new ReplyCutter((chunk) => chunks.push(chunk));
  let at = 0;
  for (let turn = 0; at < stream.length; turn += 1) {
    const space = cutter.space();
    const count = Math.min(space.length, steps[turn % steps.length]!, stream.length - at);
    space.set(stream.subarray(at, at + count));
    cutter.accept(count);
    at += count;
  }
  return chunks.filter(({ length }) => length > 0);
};

const LINES = [
  '+OK',
  '-ERR $70000 is no length',
  ':42',
  '$-1',
  '*-1',
  '_',
  '#t',
  '*2',
  '%1',
  '>3',
  ',1.5',
  '(12345678901234567890',
];

/** A line, or the type and length of what follows it. */
const reply = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...LINES) },
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom('$', '=', '!'), fc.integer({ min: 0, max: 2000 })) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('$'), fc.integer({ min: LARGE, max: 3 * LARGE })) },
);
const step = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1000, max: 2 * LARGE }));

it('passes on every byte, and each large text as one chunk, however the bytes come', () => {
  fc.assert(
    fc.property(
      fc.array(reply, { maxLength: 12 }),
      fc.array(step, { minLength: 1, maxLength: 5 }),
      (replies, steps) => {
        const parts = replies.map((one) =>
          typeof one === 'string' ? Buffer.from(`${one}\r\n`) : typed(one[0], filled(one[1])),
        );
        const stream = Buffer.concat(parts);
        // Single bytes for a long stream would take long and show no more.
        const chunks = cut(stream, stream.length > LARGE ? [...steps, LARGE] : steps);
        expect(Buffer.concat(chunks).equals(stream)).toBe(true);
        const wanted = parts.filter(({ length }) => length > LARGE);
        const found = chunks.filter(({ buffer }) => buffer instanceof SharedArrayBuffer);
        expect(found.map(({ length }) => length)).toEqual(wanted.map(({ length }) => length));
      },
    ),
  );
});

it('lays a large text where numbers of eight bytes may begin', () => {
  for (const length of [LARGE, 123_456, 1_000_000]) {
    const [chunk] = cut(text(filled(length)), [LARGE]);
    expect((chunk!.byteOffset + `$${length}\r\n`.length) % 8).toBe(0);
  }
});

it('keeps what it passed on while it reads more', () => {
  const first = cut(
    Buffer.concat([text(Buffer.from('first')), text(filled(LARGE)), text(Buffer.from('last'))]),
    [11],
  );
  expect(first[0]!.toString()).toBe('$5\r\nfirst\r\n');
});
