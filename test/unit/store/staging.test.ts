import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import { Segments } from '../../../shared/store/embedded/segments.ts';
import { LIMITS } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';

const HOUR_MS = 3_600_000;
const bytesOf = (fill: number, length = 100_000): Uint8Array => new Uint8Array(length).fill(fill);

describe('staged records', () => {
  let directory: string;
  let segments: Segments;

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'sluice-staging-'));
    segments = new Segments(directory, true);
  });

  afterEach(async () => {
    segments.close();
    await rm(directory, { recursive: true, force: true });
  });

  it('lie where their append then says, in whatever order they reach the disk', async () => {
    const records = Array.from({ length: 20 }, (_, i) => bytesOf(i + 1, 10_000 * (20 - i)));
    await Promise.all(records.map((bytes) => segments.stage(bytes, 0)));
    const size = segments.bytes;
    const refs = records.map((bytes) => segments.append(bytes, 0));
    expect(segments.bytes).toBe(size);
    refs.forEach((ref, i) => {
      expect(Buffer.compare(segments.read(ref), records[i]!)).toBe(0);
    });
  });

  it('are written once more when their verb runs after all was settled', async () => {
    const bytes = bytesOf(7);
    await segments.stage(bytes, 0);
    const first = segments.append(bytes, 0);
    segments.unstage(bytes);
    const second = segments.append(bytes, 0);
    expect(second).not.toEqual(first);
    expect(Buffer.compare(segments.read(second), bytes)).toBe(0);
  });

  it('keep their file until a row refers to them or their verb was refused', async () => {
    const bytes = bytesOf(3);
    const staging = segments.stage(bytes, 0);
    // The hour is over while the record is on its way, and nothing refers to its file.
    segments.cut(HOUR_MS);
    expect(segments.recycle(() => undefined)).toBe(0);
    await staging;
    expect(segments.recycle(() => undefined)).toBe(0);
    const ref = segments.append(bytes, 0);
    expect(Buffer.compare(segments.read(ref), bytes)).toBe(0);
    segments.unstage(bytes);
    expect(segments.recycle(() => undefined)).toBe(1);
  });
});

describe('large payloads and outputs', () => {
  const home = async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-large-'));
    return {
      open: (changes = {}) =>
        openEmbeddedStore({
          ...LIMITS,
          queueRowsMax: 10,
          ...changes,
          directory,
          durability: 'fsync' as const,
        }),
      remove: () => rm(directory, { recursive: true, force: true }),
    };
  };
  const payload = { kind: 'arrow' as const, bytes: bytesOf(9) };

  it('leave nothing on the disk when they are refused', async () => {
    await using shop = new Workshop(await home());
    await shop.open();
    const bodyDigest = 'digest';
    const first = await shop.admitted(10, { payload, idempotency: { key: 'k', bodyDigest } });
    const { segmentBytes } = await shop.store.retention.usage();
    expect(segmentBytes).toBeGreaterThan(payload.bytes.length);
    await expect(shop.admit(1, { payload })).rejects.toMatchObject({ code: 'queue_full' });
    await expect(shop.admit(1, { payload, functionName: 'g' })).rejects.toMatchObject({
      code: 'function_not_found',
    });
    const again = await shop.admitted(10, { payload, idempotency: { key: 'k', bodyDigest } });
    expect(again).toMatchObject({ callId: first.callId, attached: true });
    const batch = await shop.run([first.callId, 0, 10]);
    const stale = { ...batch, token: 'another' };
    expect(await shop.settleOk(stale, 200_000)).toMatchObject({ accepted: false, stale: true });
    expect((await shop.store.retention.usage()).segmentBytes).toBe(segmentBytes);
    expect(await shop.settleOk(batch, 200_000)).toMatchObject({ accepted: true });
    expect((await shop.store.retention.usage()).segmentBytes).toBeGreaterThan(segmentBytes + 200_000);
  });

  it.each([
    ['Arrow', payload],
    ['JSON', { kind: 'json' as const, text: JSON.stringify(['ä'.repeat(70_000)]) }],
  ])('of %s let others pass while they are on their way', async (_, large) => {
    await using shop = new Workshop(await home());
    await shop.open();
    const first = shop.admit(1, { payload: large });
    const other = shop.server.connect();
    const second = other.queue.admit(shop.admission(1, {}));
    expect((await second).callId).toBeLessThan(await first);
    const batch = await shop.run([await first, 0, 1]);
    expect(batch.calls[0]!.payload).toEqual(large);
    await other.close();
  });

  it('that were on their way when the store closed are answered', async () => {
    await using shop = new Workshop(await home());
    await shop.open();
    const admitted = shop.admit(10, { payload });
    const closed = shop.store.close();
    const callId = await admitted;
    await closed;
    await shop.server.close();
    await shop.open();
    expect(await shop.call(callId)).toMatchObject({ rows: 10, status: 'pending' });
  });
});
