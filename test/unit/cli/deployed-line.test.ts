import { expect, it } from 'vitest';
import { deployedLine } from '../../../cli/deploy/deployed-line.ts';
import type { SpecJson } from '../../../sdk/index.ts';

const SPEC = { name: 'f', max_batching_size: 5, max_buffer_duration: null, max_batch_bytes: 10 } as SpecJson;
const fn = { name: 'f', version: 'v1', spec: SPEC };

it('says what a deploy has done, and nothing that it does not know', () => {
  const live = { ...SPEC, max_batching_size: null, max_buffer_duration: 20 };
  const cases = [
    [true, undefined, 'f v1 is deployed'],
    [true, { ...fn, version: 'v2' }, 'f v1 is deployed'],
    [false, fn, 'f v1 was deployed before; nothing changed'],
    [false, undefined, 'f v1 was deployed before'],
    [
      false,
      { ...fn, version: 'v2', spec: live },
      'f v1 was deployed before; it is current again, in place of v2',
    ],
    [
      false,
      { ...fn, spec: live },
      'f v1 was deployed before; max_batching_size is 5 again (it was not set); max_buffer_duration is not set again (it was 20)',
    ],
  ] as const;
  for (const [isNew, before, line] of cases) expect(deployedLine(fn, isNew, before)).toBe(line);
});
