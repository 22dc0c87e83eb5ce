/** Calls of OpenAI's routes that an idempotency key can find again. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../../../support/sluice-process.ts';
import { type Rig, type Row, settleAll, startRig, versionIdOf } from '../rig.ts';

const vectors = { list: { name: 'item', type: 'float32', nullable: false } };
const EMBED = { task: 'embedding', output: { type: vectors } };

let rig: Rig;
beforeAll(async () => {
  rig = await startRig({ waitMaxMs: '300' });
  await rig.deploy('embed', EMBED);
});
afterAll(() => rig.stop());

const embed = (headers: Record<string, string>, input = 'a') =>
  rig.post('/v1/embeddings', { model: 'embed', input }, headers);

const answered = async (row: Row): Promise<void> => {
  const versionId = await versionIdOf(rig.store, 'embed');
  await eventually('its call waits', async () => {
    const { calls } = await rig.store.queue.open({ versionId, after: 0, limit: 10 });
    return calls.length === 1;
  });
  await settleAll(rig.store, versionId, () => row, vectors);
};

it('one whose wait is over goes on, and the same request gets its answer', async () => {
  const key = { 'idempotency-key': 'k' };
  const first = await embed(key);
  expect([first.status, first.json.error.message]).toEqual([
    504,
    expect.stringContaining('request goes on, and is found by its idempotency key'),
  ]);
  await answered({ value: [0.5, 2] });
  const again = await embed(key);
  expect([again.status, again.json.data?.[0].embedding]).toEqual([200, [0.5, 2]]);
  expect((await embed(key, 'b')).status).toBe(422);
  const { status, json } = await embed({ ...key, 'sluice-priority': '5' });
  expect([status, json.error.code]).toEqual([422, 'idempotency_mismatch']);
});

it('one without a key is cancelled, or has expired, with the wait', async () => {
  const { status, json } = await embed({});
  expect([status, json.error.message]).toEqual([
    504,
    'There was no answer within 300 ms; the request is cancelled.',
  ]);
});
