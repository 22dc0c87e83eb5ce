/** Bytes that cannot be read, on their way to a handler or back, fail their own rows at once; no lease waits for its end. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LeasedBatch, QueueStore } from '../../../shared/store/ports/queue.ts';
import { BatchRun } from '../../../workers/batch-run.ts';
import { verdictOf } from '../../../workers/settling.ts';
import { nodeSpec, Rig } from './rig.ts';

describe('a payload that cannot be read', () => {
  it('fails its own call; its neighbours in the batch go on', async () => {
    const damaged = new Set<number>();
    const spoil = (batch: LeasedBatch): LeasedBatch => ({
      ...batch,
      calls: batch.calls.map((call) =>
        damaged.has(call.callId) ? { ...call, payload: { kind: 'json', text: '[{' } } : call,
      ),
    });
    const faulty = (queue: QueueStore): Partial<QueueStore> => ({
      lease: async (request) => (await queue.lease(request)).map(spoil),
    });
    // A lease as long as a day: nothing may have to wait for its end. Retries would wait as long.
    const rig = await Rig.open({ faulty, leaseMs: 86_400_000 });
    const patient = { ...nodeSpec('').retry, retries: 3, initialMs: 86_400_000, maxMs: 86_400_000 };
    const record = await rig.deploy(
      nodeSpec('export const run = ({ text }) => text', {
        batching: { sizeRows: 4, durationMs: 60_000, bytesMax: 2 ** 26 },
        retry: patient,
      }),
    );
    const first = await rig.submit(record, ['a']);
    const second = await rig.submit(record, ['b']);
    damaged.add(second);
    const third = await rig.submit(record, ['c', 'd']);
    expect(await rig.finished(first)).toMatchObject({ status: 'completed', values: ['a'] });
    expect(await rig.finished(third)).toMatchObject({ status: 'completed', values: ['c', 'd'] });
    const { status, errors } = await rig.finished(second);
    expect([status, errors.get(0)?.code]).toEqual(['failed', 'internal']);
    expect(errors.get(0)?.message).toMatch(/^the rows could not be read as the function's input: /);
  });
});

/** What it ran on does not matter here. */
const NOWHERE = null as never;

describe('an answer that cannot be read', () => {
  const leased: LeasedBatch = {
    batchId: 1,
    versionId: 1,
    token: 't',
    attempts: 0,
    claims: 0,
    mode: 'fresh',
    reason: 'size',
    leaseUntil: 0,
    slices: [{ callId: 1, from: 0, count: 2 }],
    calls: [],
  };

  it('is a failure of its batch, whatever its bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, framed) => {
        // Behind a continuation mark and a length that is believable, readers look further.
        const stream = framed ? new Uint8Array([255, 255, 255, 255, 64, 0, 0, 0, ...bytes]) : bytes;
        const answer = { end: 'ok', outputs: [{ rows: 2, stream, refused: [] }] } as const;
        const verdict = verdictOf(new BatchRun(leased, NOWHERE), answer, nodeSpec(''));
        expect(verdict).toMatchObject({
          run: { end: 'error', error: { code: 'handler_output_invalid' } },
          output: null,
        });
      }),
      { numRuns: 500 },
    );
  });
});
