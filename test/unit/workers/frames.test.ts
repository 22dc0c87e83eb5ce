import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sharedBytes } from '../../../shared/runtime/shared-bytes.ts';
import { type Frame, FrameError, FrameReader, frameHead } from '../../../workers/frames.ts';

type Header = Record<string, unknown>;

const anyFrame = fc.record({
  header: fc.dictionary(fc.string({ minLength: 1 }), fc.oneof(fc.string(), fc.integer())),
  body: fc.uint8Array({ maxLength: 200 }),
});

const readAll = (chunks: readonly Uint8Array[]): { frames: Frame<Header>[]; idle: boolean } => {
  const frames: Frame<Header>[] = [];
  const reader = new FrameReader<Header>(sharedBytes, (frame) => frames.push(frame));
  for (const chunk of chunks) reader.push(chunk);
  return { frames, idle: reader.idle };
};

describe('frames', () => {
  it('come out as they went in, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 5 }), fc.array(fc.nat(1000)), (frames, cuts) => {
        const bytes = Buffer.concat(
          frames.flatMap(({ header, body }) => [frameHead(header, body.length), body]),
        );
        const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        const chunks = ends.map((end, at) => bytes.subarray(at === 0 ? 0 : ends[at - 1], end));
        const read = readAll(chunks);
        expect(read.idle).toBe(true);
        expect(read.frames.map(({ header }) => JSON.stringify(header))).toEqual(
          frames.map(({ header }) => JSON.stringify(header)),
        );
        expect(read.frames.map(({ body }) => [...body])).toEqual(frames.map(({ body }) => [...body]));
      }),
    );
  });

  it('are read straight into large bodies, and a frame that follows is not lost', () => {
    const body = Uint8Array.from({ length: 300_000 }, (_, at) => at % 251);
    const bytes = Buffer.concat([
      frameHead({ nth: 1 }, body.length),
      body,
      frameHead({ nth: 2 }, 2),
      body.subarray(0, 2),
    ]);
    const frames: Frame<Header>[] = [];
    const reader = new FrameReader<Header>(sharedBytes, (frame) => frames.push(frame));
    for (let at = 0; at < bytes.length; ) {
      const space = reader.space();
      const count = Math.min(space.length, 40_000, bytes.length - at);
      space.set(bytes.subarray(at, at + count));
      reader.accept(count);
      at += count;
    }
    expect(frames.map(({ header }) => header)).toEqual([{ nth: 1 }, { nth: 2 }]);
    expect(Buffer.compare(frames[0]!.body, body)).toBe(0);
    expect([...frames[1]!.body]).toEqual([0, 1]);
  });

  it('hold their bodies in shared memory', () => {
    const { frames } = readAll([frameHead({ type: 'x' }, 3), new Uint8Array([1, 2, 3])]);
    expect(frames[0]?.body.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  it('tell a cut frame from a whole one', () => {
    expect(readAll([frameHead({ type: 'x' }, 3), new Uint8Array([1])]).idle).toBe(false);
  });

  it.each([
    ['a frame above 2 GiB', [0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]],
    ['a header longer than its frame', [5, 0, 0, 0, 9, 0, 0, 0]],
    ['a header that is no JSON', [6, 0, 0, 0, 2, 0, 0, 0, 0x7b, 0x7b]],
    ['a header that is no object', [5, 0, 0, 0, 1, 0, 0, 0, 0x31]],
  ])('refuse %s', (_, bytes) => {
    expect(() => readAll([new Uint8Array(bytes)])).toThrow(FrameError);
  });
});
