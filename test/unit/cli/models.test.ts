import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readEngineFile } from '../../../cli/engines/engine-file.ts';
import { CATALOG_FOLDER, curatedVariant, readCatalog } from '../../../cli/models/curated-models.ts';
import { deploymentOf, memoryBytes, patchOf, updateOf } from '../../../cli/models/deployment-options.ts';
import { byteText, fieldList } from '../../../cli/models/group-views.ts';
import type { ScalingGroupJson } from '../../../sdk/index.ts';
import { parseType } from '../../../shared/arrow/index.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'sluice-catalog-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the catalog of curated models', () => {
  it('has all-minilm-l6-v2 for a CPU and for a GPU, by version and digest', () => {
    const cpu = curatedVariant('all-minilm-l6-v2', 'cpu');
    const gpu = curatedVariant('all-minilm-l6-v2', 'gpu');
    expect([cpu.variant.resources.gpu, gpu.variant.resources.gpu]).toEqual([null, 'nvidia-l4:1']);
    for (const { variant } of [cpu, gpu]) expect(variant.package?.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it('names files that are there, types that there are, and a place that weights come from', () => {
    for (const { name, inputs, outputs, variants } of readCatalog())
      for (const [kind, variant] of Object.entries(variants)) {
        const where = `${name} ${kind}`;
        for (const file of Object.values(variant.source))
          expect([where, file, existsSync(path.join(CATALOG_FOLDER, file))]).toEqual([where, file, true]);
        expect([where, Object.keys(variant.source)]).toEqual([
          where,
          expect.arrayContaining([variant.handler.file]),
        ]);
        for (const { type } of [...inputs, ...outputs]) expect(() => parseType(type, where)).not.toThrow();
        expect([where, variant.package !== undefined || variant.image !== undefined]).toEqual([where, true]);
      }
  });

  it('is refused with the place where it is wrong', () => {
    const file = path.join(folder, 'models.json');
    const models = structuredClone([...readCatalog()]);
    models[0]!.variants.cpu!.package!.digest = 'sha256:12';
    writeFileSync(file, JSON.stringify({ models }));
    expect(() => readCatalog(file)).toThrow(/\/models\/0\/variants\/cpu\/package\/digest/);
    expect(() => curatedVariant('nothing', 'cpu')).toThrow('which has all-minilm-l6-v2');
  });
});

describe('options of a deployment', () => {
  it('become the members that were given, and no others', () => {
    expect(deploymentOf('m', {})).toEqual({ model: 'm' });
    const options = { modelVersion: '3', cpu: 0.5, memory: '2Gi', gpu: 'nvidia-l4:1', env: ['A=b=c'] };
    expect(deploymentOf('m', { ...options, minReplicas: 0, image: 'name:tag' })).toEqual({
      model: 'm',
      version: 3,
      resources: { cpu: 0.5, memory_bytes: 2 ** 31, gpu: 'nvidia-l4:1' },
      env: { A: 'b=c' },
      scaling: { min_replicas: 0 },
      image: { reference: 'name:tag' },
    });
    expect(deploymentOf('m', { modelVersion: 'production' }).version).toBe('production');
  });

  it('change what is named of a group, and keep the rest', () => {
    const scaling = { min_replicas: 1, max_replicas: 4 };
    const resources = { cpu: 1, memory_bytes: null, gpu: null };
    const start = {
      ...{ image: { reference: 'name:tag' }, handler: 'model.handler', on_startup: 'model.load' },
      ...{ entrypoint: ['serve'], port: 9000, skip_artifacts: true },
    };
    const group = {
      model: 'm',
      backend: 'process',
      env: { A: 'b' },
      scaling,
      resources,
      ...start,
    } as unknown;
    const changed = updateOf(group as ScalingGroupJson, { modelVersion: '2', maxReplicas: 8 });
    expect(updateOf(group as ScalingGroupJson, { port: 9001, skipArtifacts: false })).toMatchObject({
      ...{ ...start, port: 9001, skip_artifacts: false },
    });
    expect(changed).toMatchObject({
      ...start,
      ...{ model: 'm', version: 2, backend: 'process', env: { A: 'b' }, resources },
      scaling: { min_replicas: 1, max_replicas: 8 },
    });
    expect(patchOf({ maxBatchingSize: 5 })).toEqual({ max_batching_size: 5 });
  });

  it('of an engine take a version in quotes', async () => {
    const file = path.join(folder, 'engine.yaml');
    writeFileSync(file, 'project: p\nname: n\nversion: 1.10\n');
    await expect(readEngineFile(file, {})).rejects.toThrow('version is the number 1.1; put it in quotes');
    expect(await readEngineFile(file, { version: '2' })).toMatchObject({ version: '2' });
  });

  it('are refused by name', () => {
    expect(() => deploymentOf('m', { cpu: Number.NaN })).toThrow('--cpu takes a number');
    expect(() => deploymentOf('m', { backend: 'vm' })).toThrow('--backend is vm');
    expect(() => patchOf({})).toThrow('Give what to change');
    expect(() => memoryBytes('two')).toThrow('--memory is two');
    expect([memoryBytes('512'), memoryBytes('1.5Gi'), memoryBytes('2G')]).toEqual([512, 1_610_612_736, 2e9]);
  });
});

it('sizes and fields are shown as people read them', () => {
  expect([byteText(5), byteText(2048), byteText(3.5 * 2 ** 30)]).toEqual(['5 B', '2.0 KiB', '3.5 GiB']);
  const item = { name: 'item', type: 'float32', nullable: true };
  const fields = [
    { name: 'a', type: 'utf8', nullable: false },
    { name: 'b', type: { list: item }, nullable: true },
  ];
  expect(fieldList(fields)).toBe('a: utf8, b: list<float32> (nullable)');
});
