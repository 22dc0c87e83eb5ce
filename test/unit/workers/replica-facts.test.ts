/** What a person can read of a replica: its process, its devices, what it uses, and why it ended. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { plainScaling } from '../../../shared/domain/scaling.ts';
import { gpuRequest } from '../../../workers/gpu-devices.ts';
import { GATED, nodeSpec, Rig, type SpecChanges, watchedRig } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
const MEMORY_BYTES = 150 * 2 ** 20;
const limited: SpecChanges = {
  batching: single,
  resources: { cpu: null, memoryBytes: MEMORY_BYTES, gpu: null },
};
const EATING = 'const held = []; for (let i = 0; i < 8; i += 1) held.push(Buffer.alloc(2 ** 25, 1));';
/** Both figures: what was used, and what may be. */
const OVER = /used \d+ MiB of memory=150 MiB/;

describe('a replica over its memory', () => {
  it('is named with both figures when it was loading', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(
      nodeSpec(`${EATING} await new Promise(() => setInterval(() => held, 1000));`, limited),
    );
    const { reason, replicas } = await rig.report(record, ({ failed }) => failed === 1);
    expect(reason).toMatch(OVER);
    expect(replicas).toMatchObject([{ state: 'failed', reason: expect.stringMatching(OVER), place: null }]);
  });

  it('is named with both figures when a batch was running, also when it serves again', async () => {
    const rig = await Rig.open();
    const body = `const kept = [];
      export const run = ({ text }) => {
        if (text[0] !== 'eat') return text;
        ${EATING} kept.push(held);
        return new Promise(() => setInterval(() => kept, 1000));
      };`;
    const record = await rig.deploy(nodeSpec(body, limited));
    await rig.submit(record, ['eat']);
    const { reason, replicas } = await rig.report(
      record,
      (report) => report.ready === 1 && (report.replicas?.[0]?.restarts ?? 0) > 0,
    );
    expect(reason).toBeNull();
    expect(replicas?.[0]?.reason).toMatch(OVER);
  });
});

describe('what a replica uses', () => {
  it('is measured while it works', async () => {
    const { rig, leased } = await watchedRig();
    const body = `import { existsSync } from 'node:fs';
      export const run = ({ text }) => { while (existsSync(text[0])); return text; };`;
    const record = await rig.deploy(nodeSpec(body, { batching: single }));
    const busy = path.join(rig.directory, 'busy');
    await writeFile(busy, '');
    const call = await rig.submit(record, [busy]);
    await leased(1);
    const { replicas } = await rig.report(record, (report) => (report.replicas?.[0]?.cpuPercent ?? 0) > 0);
    const [facts] = replicas ?? [];
    expect(facts).toMatchObject({ index: 0, state: 'ready', runningRows: 1, restarts: 0, reason: null });
    expect(facts?.memoryBytes).toBeGreaterThan(2 ** 20);
    expect(await readFile(`/proc/${facts?.place}/cmdline`, 'utf8')).toContain('child.ts');
    await rm(busy);
    expect((await rig.finished(call)).status).toBe('completed');
  });
});

describe('devices', () => {
  const DEVICES = 'export const run = ({ text }) => text.map(() => process.env.CUDA_VISIBLE_DEVICES);';
  const gpu = (text: string): SpecChanges => ({
    batching: single,
    resources: { cpu: null, memoryBytes: null, gpu: text },
  });
  const machine = { gpus: 4, gpuNames: new Array<string>(4).fill('Tesla T4'), memoryBytes: 2 ** 33 };

  it('are a type and a count', () => {
    expect(gpuRequest(null)).toBeNull();
    expect(gpuRequest('nvidia-l4')).toEqual({ type: 'nvidia-l4', count: 1 });
    expect(gpuRequest('nvidia-tesla-t4:2')).toEqual({ type: 'nvidia-tesla-t4', count: 2 });
  });

  it('are each replica’s own, and one too many says what is missing', async () => {
    const rig = await Rig.open({ machine, strict: true });
    const record = await rig.deploy(nodeSpec(DEVICES, gpu('nvidia-tesla-t4:2')), {
      scaling: plainScaling({ min: 3, max: 3 }),
    });
    const { replicas, reason } = await rig.report(record, ({ ready, failed }) => ready === 2 && failed === 1);
    expect(replicas?.map(({ devices }) => devices)).toEqual([[0, 1], [2, 3], []]);
    expect(reason).toMatch(/needs 2 of the 4 GPUs of this machine for itself, and 0 are free/);
    expect(['0,1', '2,3']).toContain((await rig.run(record, ['a'])).values[0]);
  });

  it('of another type are refused by a strict server', async () => {
    const rig = await Rig.open({ machine, strict: true });
    const record = await rig.deploy(nodeSpec(DEVICES, gpu('nvidia-l4')));
    const { reason, replicas } = await rig.report(record, () => true);
    expect(reason).toBe(
      'this server refuses what it cannot honour: gpu="nvidia-l4": this machine has Tesla T4',
    );
    expect(replicas).toBeUndefined();
  });
});

describe('a back end that a worker does not have', () => {
  it('is refused, with those that it has', async () => {
    const rig = await Rig.open();
    const record = await rig.deploy(nodeSpec(GATED, { backend: 'kubernetes' }));
    const { reason, ready, starting } = await rig.report(record, () => true);
    expect([ready, starting]).toEqual([0, 0]);
    expect(reason).toBe('backend="kubernetes": this worker does not have it; its back ends are process');
  });
});
