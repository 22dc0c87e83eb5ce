import { createHash, randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { InferenceSweep, inferenceDigests } from '../../../services/inferences/inference-sweep.ts';
import { RegistrySweep } from '../../../services/registry/registry-sweep.ts';
import { type DriftRecord, type InferenceFile, inferenceFileKey } from '../../../shared/domain/inference.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { storeWhole } from '../../../shared/store/artifacts/index.ts';
import type { Documents } from '../../../shared/store/ports/documents.ts';
import { inferenceFiles } from '../../support/inference-rows.ts';
import { ModelRig } from '../../support/model-rig.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const put = (documents: Documents, name: string, file: Partial<InferenceFile> & { from: number }) => {
  const value: InferenceFile = {
    ...{ group: 'g', digest: digestOf(name), bytes: name.length, rows: 1, until: file.from },
    ...{ model: name, modelVersion: 1, functionVersion: 'v', retentionMs: 10 * MINUTE_MS },
    ...file,
  };
  return documents.put({
    kind: 'inference-file',
    key: inferenceFileKey(value, randomUUID()),
    revision: null,
    value,
  });
};

onEveryOpenedStore((open) => {
  it('ends the retention of each file, once for all processes, and leaves what drift compares with', async () => {
    await using rig = new ModelRig(await open());
    const { documents } = rig.main.store;
    const begin = rig.now;
    const processes = [1, 2].map(
      () => new InferenceSweep({ documents, log: silentLog(), wall: () => rig.now }),
    );
    await put(documents, 'old', { from: begin - 30 * MINUTE_MS });
    await put(documents, 'reaching', { from: begin - 30 * MINUTE_MS, until: begin - MINUTE_MS });
    await put(documents, 'kept long', { from: begin - 30 * MINUTE_MS, retentionMs: DAY_MS });
    await put(documents, 'young', { from: begin - MINUTE_MS });
    await put(documents, 'compared', { group: 'h', from: begin - 5 * DAY_MS, until: begin - 4 * DAY_MS });
    await put(documents, 'beside', { group: 'h', from: begin - 6 * DAY_MS, until: begin - 5 * DAY_MS - 1 });
    const drift: DriftRecord = {
      group: 'h',
      settings: {
        reference: { from: begin - 5 * DAY_MS, until: begin - 4.5 * DAY_MS },
        windowMs: MINUTE_MS,
      },
      figures: null,
    };
    const written = await documents.put({ kind: 'drift', key: 'h', revision: null, value: drift });
    const names = async () =>
      (await Promise.all(['g', 'h'].map((group) => inferenceFiles(documents, group))))
        .flat()
        .map(({ model }) => model)
        .sort();
    const swept = await Promise.all(processes.map((one) => one.sweep()));
    expect(swept.toSorted()).toEqual([2, null]);
    expect(await names()).toEqual(['compared', 'kept long', 'reaching', 'young']);
    rig.now += 5 * MINUTE_MS - 1;
    expect(await processes[0]!.sweep()).toBeNull();
    rig.now += 5 * MINUTE_MS;
    await documents.remove({ kind: 'drift', key: 'h', revision: written! });
    expect(await processes[1]!.sweep()).toBe(3);
    expect(await names()).toEqual(['kept long']);
  });

  it('goes on when a clock that was ahead was set back', async () => {
    await using rig = new ModelRig(await open());
    const { documents } = rig.main.store;
    let now = rig.now + 400 * DAY_MS;
    const sweep = new InferenceSweep({ documents, log: silentLog(), wall: () => now });
    expect(await sweep.sweep()).toBe(0);
    now = rig.now;
    await put(documents, 'old', { from: now - DAY_MS });
    expect(await sweep.sweep()).toBe(1);
  });

  it('keeps the artifacts of its files, and no others', async () => {
    await using rig = new ModelRig(await open());
    const { artifacts } = rig;
    const { store } = rig.main;
    for (const text of ['named', 'unnamed'])
      await storeWhole(artifacts, {
        ...{ digest: digestOf(text), bytes: text.length },
        bodyFrom: async function* (at) {
          yield Buffer.from(text).subarray(at);
        },
      });
    await put(store.documents, 'named', { from: rig.now });
    const sweep = new RegistrySweep({
      ...{ store, artifacts, log: silentLog(), wall: () => Date.now() + 2 * DAY_MS },
      holdings: async () => ({ tokens: new Set<string>(), images: [], digests: new Set<string>() }),
      digests: () => inferenceDigests(store.documents),
    });
    expect((await sweep.sweep())?.artifacts).toBe(1);
    expect((await artifacts.state(digestOf('named'))).isComplete).toBe(true);
    expect((await artifacts.state(digestOf('unnamed'))).isComplete).toBe(false);
  });
});
