import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CallWaits } from '../../../services/results/call-waits.ts';
import type { QueueStore } from '../../../shared/store/ports/queue.ts';
import { type Rig, settleAll, startRig, versionIdOf } from '../ingress/rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig({ ingressThreads: '1' });
});
afterAll(() => rig.stop());

const callOf = async (name: string): Promise<number> => {
  await rig.deploy(name);
  await rig.post(`/v1/functions/${name}/calls`, { columns: { text: ['a'] } });
  const { calls } = await rig.store.queue.list({
    functionName: name,
    status: null,
    apiKeyId: null,
    before: null,
    limit: 1,
  });
  return calls[0]!.id;
};

describe('a wait', () => {
  it('ends once, with the end of the call', async () => {
    const callId = await callOf('ends');
    const waits = new CallWaits(rig.store.queue);
    const ended = new Promise((resolve) => waits.wait(callId, 60_000, resolve));
    expect(waits.size).toBe(1);
    await settleAll(rig.store, await versionIdOf(rig.store, 'ends'), () => ({ value: 1 }));
    expect(await ended).toMatchObject({ callId, status: 'completed' });
    expect(waits.size).toBe(0);
  });

  it('of a finished call ends at once', async () => {
    const callId = await callOf('over');
    await settleAll(rig.store, await versionIdOf(rig.store, 'over'), () => ({ value: 1 }));
    const waits = new CallWaits(rig.store.queue);
    expect(await new Promise((resolve) => waits.wait(callId, 60_000, resolve))).toMatchObject({
      status: 'completed',
    });
  });

  it('of a call that was lost ends with that', async () => {
    const callId = await callOf('lost');
    const told = { code: 'data_lost', detail: 'The call was lost.' } as const;
    const watch: QueueStore['watch'] = (_query, _listener, onLost) => {
      queueMicrotask(() => onLost?.(told));
      return () => undefined;
    };
    const waits = new CallWaits({ ...rig.store.queue, watch });
    const end = { code: 'data_lost', message: 'The call was lost.' };
    expect(await new Promise((resolve) => waits.wait(callId, 60_000, resolve))).toMatchObject(end);
    const ignore = (): void => undefined;
    expect(await new Promise((resolve) => waits.follow(callId, ignore, resolve))).toMatchObject(end);
    expect(waits.size).toBe(0);
  });

  it('ends with its time, its cancel or the drain, and leaves nothing', async () => {
    const callId = await callOf('leaves');
    const waits = new CallWaits(rig.store.queue);
    expect(await new Promise((resolve) => waits.wait(callId, 1, resolve))).toBeNull();
    const cancelled = waits.wait(callId, 60_000, () =>
      expect.unreachable('a cancelled wait answers nothing'),
    );
    expect([cancelled.cancel(), cancelled.cancel(), waits.size]).toEqual([true, false, 0]);
    const drained = new Promise((resolve) => waits.wait(callId, 60_000, resolve));
    waits.drain();
    expect([await drained, waits.size]).toEqual([null, 0]);
    expect(await new Promise((resolve) => waits.wait(callId, 60_000, resolve))).toBeNull();
  });
});
