import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Chunk, chunksOf } from '../../../services/batches/chunks.ts';
import { CustomIds } from '../../../services/batches/custom-ids.ts';
import { LINE_BYTES_MAX, type Line, linesOf } from '../../../services/batches/lines.ts';
import { validateInput } from '../../../services/batches/validation.ts';

/** The bytes in pieces of the sizes, again and again. */
async function* pieces(bytes: Uint8Array, sizes: readonly number[] = [65_536]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes[i % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

const START = { byte: 0, line: 1 };
const collect = async <T>(values: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = [];
  for await (const value of values) found.push(value);
  return found;
};
const plain = ({ number, endByte, bytes }: Line) => ({ number, endByte, text: bytes?.toString() ?? null });

describe('lines', () => {
  it('are those of the text, however its bytes come', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('a', 'é', '\n', '\r\n', ' ', '{"b": 1}'), { maxLength: 40 }),
        fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 }),
        async (parts, sizes) => {
          const text = parts.join('');
          const found = await collect(linesOf(pieces(Buffer.from(text), sizes), START));
          const wanted = text
            .split('\n')
            .map((line, i) => ({ number: i + 1, text: line }))
            .filter(({ text: line }) => line.trim() !== '');
          expect(found.map(plain).map(({ number, text: line }) => ({ number, text: line }))).toEqual(wanted);
          const bytes = Buffer.from(text);
          for (const { endByte } of found)
            expect([10, undefined]).toContain(bytes.subarray(0, endByte).at(-1) === 10 ? 10 : bytes[endByte]);
        },
      ),
    );
  });

  it('go on from the end of any of them', async () => {
    const bytes = Buffer.from('one\n\ntwo\nthree\n');
    const all = (await collect(linesOf(pieces(bytes, [3]), START))).map(plain);
    expect(all.map(({ text }) => text)).toEqual(['one', 'two', 'three']);
    for (const [i, { endByte, number }] of all.entries()) {
      const rest = linesOf(pieces(bytes.subarray(endByte), [2]), { byte: endByte, line: number + 1 });
      expect((await collect(rest)).map(plain)).toEqual(all.slice(i + 1));
    }
  });

  it('that are too long are said to be, and not held', async () => {
    async function* long(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i <= LINE_BYTES_MAX / 2 ** 20; i += 1) yield new Uint8Array(2 ** 20).fill(97);
      yield Buffer.from('\nshort');
    }
    expect((await collect(linesOf(long(), START))).map(plain)).toMatchObject([
      { number: 1, text: null },
      { number: 2, text: 'short' },
    ]);
  });
});

const asking = (id: number | string, input: unknown = 'x'): string =>
  `${JSON.stringify({ custom_id: String(id), method: 'POST', url: '/v1/embeddings', body: { model: 'm', input } })}\n`;
const facts = ({ firstLine, lines, digest, end }: Chunk) => ({ firstLine, lines: lines.length, digest, end });

describe('chunks', () => {
  it('are the same from wherever one of them begins', async () => {
    const texts = Array.from({ length: 3300 }, (_, i) => asking(i, i % 7 === 0 ? ['a', 'b', 'c'] : 'x'));
    const bytes = Buffer.from(texts.join(''));
    const all = (await collect(chunksOf(pieces(bytes), START, '/v1/embeddings'))).map(facts);
    expect(all.reduce((sum, { lines }) => sum + lines, 0)).toBe(3300);
    expect(all.length).toBeGreaterThan(3);
    for (const [i, { end }] of all.entries()) {
      const rest = chunksOf(pieces(bytes.subarray(end.byte), [777]), end, '/v1/embeddings');
      expect((await collect(rest)).map(facts)).toEqual(all.slice(i + 1));
    }
  });

  it('hold a thousand rows, a mebibyte, or one line', async () => {
    const rows = [asking(1, Array(999).fill('x')), asking(2), asking(3), asking(4, Array(2048).fill('x'))];
    const large = [asking(5, 'y'.repeat(2 ** 20)), asking(6)];
    const bytes = Buffer.from([...rows, ...large].join(''));
    const chunks = await collect(chunksOf(pieces(bytes), START, '/v1/embeddings'));
    expect(chunks.map(({ lines }) => lines.length)).toEqual([2, 1, 1, 1, 1]);
    expect(chunks.map(({ firstLine }) => firstLine)).toEqual([1, 3, 4, 5, 6]);
  });
});

describe('custom ids', () => {
  it('are known again, and no others', () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 2000 }), (ids) => {
        const [set, table] = [new Set<string>(), new CustomIds()];
        for (const id of ids) {
          expect(table.add(id)).toBe(!set.has(id));
          set.add(id);
        }
      }),
      { numRuns: 20 },
    );
    const table = new CustomIds();
    for (let i = 0; i < 200_000; i += 1) if (!table.add(`request-${i}`)) throw new Error(`${i} was new`);
    for (let i = 0; i < 200_000; i += 997) expect(table.add(`request-${i}`)).toBe(false);
  });
});

describe('an input of 200 MB', () => {
  it('is checked in little memory', async () => {
    const run = Array.from({ length: 1000 }, (_, i) =>
      asking(i, 'x'.repeat(900)).replace(`"${i}"`, '"IDENTITY"'),
    );
    let given = 0;
    async function* body(): AsyncGenerator<Uint8Array> {
      for (let i = 0; given < 200 * 2 ** 20; i += 1) {
        const bytes = Buffer.from(run.map((text, j) => text.replace('IDENTITY', `${i}-${j}`)).join(''));
        given += bytes.length;
        yield bytes;
      }
    }
    const before = process.memoryUsage().rss;
    let most = before;
    const { total, faults } = await validateInput(body(), '/v1/embeddings', () => {
      most = Math.max(most, process.memoryUsage().rss);
    });
    expect(faults).toEqual([]);
    expect(total % 1000).toBe(0);
    expect(given).toBeGreaterThan(200 * 2 ** 20);
    // A third of the input would be held if lines were.
    expect(most - before).toBeLessThan(150 * 2 ** 20);
  });

  it('without a line, or with a hundred broken ones, is told so', async () => {
    const check = (text: string) =>
      validateInput(pieces(Buffer.from(text)), '/v1/embeddings', () => undefined);
    expect((await check('\n \n')).faults.map(({ code }) => code)).toEqual(['empty_file']);
    expect((await check('broken\n'.repeat(5000))).faults).toHaveLength(100);
    const bytes = Buffer.concat([Buffer.from('{"custom_id": "'), Buffer.from([0xff]), Buffer.from('"}\n')]);
    const wrong = await validateInput(pieces(bytes), '/v1/embeddings', () => undefined);
    expect(wrong.faults.map(({ code }) => code)).toEqual(['invalid_json_line']);
  });

  it('whose ids are no text is told so, and not that they are the same', async () => {
    const text = ['\ud800', '\udbff'].map((id) => asking(id)).join('');
    const { faults } = await validateInput(pieces(Buffer.from(text)), '/v1/embeddings', () => undefined);
    expect(faults.map(({ code, param }) => [code, param])).toEqual(
      Array(2).fill(['missing_required_parameter', 'custom_id']),
    );
    expect(faults[0]!.message).toContain('custom_id is "\\ud800"; give a string');
  });
});
