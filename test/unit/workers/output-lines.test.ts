import { describe, expect, it } from 'vitest';
import { OutputLines } from '../../../workers/output-lines.ts';

const collector = () => {
  const texts: string[] = [];
  const clock = { now: 1000 };
  const lines = new OutputLines(
    (text) => texts.push(text),
    () => clock.now,
  );
  return { texts, clock, lines, push: (text: string) => lines.push(Buffer.from(text)) };
};

describe('output lines', () => {
  it('are put together from chunks', () => {
    const { texts, push, lines } = collector();
    push('on');
    push('e\r\ntwo\nthr');
    push('ee');
    expect(texts).toEqual(['one', 'two']);
    lines.end();
    expect(texts).toEqual(['one', 'two', 'three']);
  });

  it('are cut when they are long', () => {
    const { texts, push } = collector();
    for (let i = 0; i < 100; i += 1) push('x'.repeat(1000));
    push('\nnext\n');
    expect(texts[0]).toMatch(/^x{8192} \[sluice: line cut at 8192 bytes\]$/);
    expect(texts[1]).toBe('next');
  });

  it('are counted instead of kept past the limit of a second, and kept again in the next', () => {
    const { texts, clock, push } = collector();
    push('line\n'.repeat(1000));
    expect(texts).toHaveLength(200);
    push('still too many\n');
    clock.now += 1000;
    push('next\n');
    expect(texts.slice(200)).toEqual([
      `[sluice: ${800 * 5 + 15} bytes of output were left out here]`,
      'next',
    ]);
  });

  it('begin afresh after a flood that ended within a line', () => {
    const { texts, clock, push } = collector();
    push(`${'a\n'.repeat(250)}half`);
    clock.now += 1000;
    push(' of it\nwhole\n');
    expect(texts.slice(200)).toEqual(['[sluice: 104 bytes of output were left out here]', 'whole']);
  });
});
