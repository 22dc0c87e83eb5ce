import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openEmbeddedStore } from '../../../../shared/store/embedded/index.ts';
import { openEmbeddedSource } from '../../../../shared/store/embedded/transfer-source.ts';
import { openEmbeddedTarget } from '../../../../shared/store/embedded/transfer-target.ts';
import { LIMITS } from '../../../contract/factory.ts';
import { type Side, transferSuite } from './transfer-suite.ts';

const side = async (): Promise<Side> => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sluice-transfer-'));
  return {
    open: (overrides) => openEmbeddedStore({ ...LIMITS, ...overrides, directory, durability: 'fsync' }),
    remove: () => rm(directory, { recursive: true, force: true }),
    source: async () => openEmbeddedSource(directory),
    target: async () => openEmbeddedTarget(directory),
  };
};

transferSuite({ name: 'from one data directory to another', from: side, to: side }, 12);

describe('a data directory that is to be moved', () => {
  it('must not be served meanwhile', async () => {
    const one = await side();
    const server = await one.open();
    await expect(one.source()).rejects.toThrow(/Another process owns/);
    await server.close();
    const source = await one.source();
    await expect(one.open()).rejects.toThrow(/Another process owns/);
    await source.close();
    await one.remove();
  });

  it('must be there', () => {
    expect(() => openEmbeddedSource(path.join(tmpdir(), 'sluice-not-there'))).toThrow(/no data directory/);
  });
});
