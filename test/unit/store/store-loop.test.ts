/** When the store's loop commits and answers, and how it ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { Admission } from '../../../shared/store/ports/queue.ts';
import { LIMITS } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-loop-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const makeShop = async (): Promise<Workshop> => {
  const open = () => openEmbeddedStore({ ...LIMITS, directory, durability: 'memory' });
  const shop = new Workshop({ open, remove: async () => undefined });
  await shop.open();
  return shop;
};

const LARGE = new Uint8Array(100_000).fill(7);
const large = (key: string) => ({
  bytes: LARGE.length,
  payload: { kind: 'arrow', bytes: LARGE } as const,
  idempotency: { key, bodyDigest: 'x' },
});

describe('where no timer fires', () => {
  let shop: Workshop;
  beforeEach(async () => {
    shop = await makeShop();
    vi.useFakeTimers({ toFake: ['setTimeout'] });
  });
  afterEach(async () => {
    vi.useRealTimers();
    await shop.close();
  });

  it('who would wait for the end of a call hears at once that there is none to wait for', async () => {
    const idempotency = { key: 'a', bodyDigest: 'x' };
    const id = await shop.admit(1, { idempotency });
    await shop.settleOk(await shop.run([id, 0, 1]));
    const waited = (rows: number, changes: Partial<Admission>) =>
      shop.admitted(rows, { ...changes, watch: true });
    expect(await waited(1, { idempotency })).toEqual({ callId: id, status: 'completed', attached: true });
    expect(await waited(0, {})).toMatchObject({ status: 'completed' });
    const other = waited(1, { idempotency: { ...idempotency, bodyDigest: 'y' } });
    await expect(other).rejects.toMatchObject({ code: 'idempotency_mismatch' });
  });

  it('a request that breaks is answered, also beside requests that wait for no disk', async () => {
    const broken = shop.queue.extend({ now: 0, leaseMs: 1, leases: null as never });
    await expect(broken).rejects.toThrow(/bug/);
  });
});

it('answers whoever asks at any moment of its closing, and writes nothing after it', async () => {
  const shop = await makeShop();
  const asked: Promise<unknown>[] = [];
  const closing = shop.server.close();
  const ask = (): void => {
    asked.push(shop.admit(1, large(`${asked.length}`)).catch(({ code }) => code));
    if (asked.length < 40) queueMicrotask(ask);
  };
  ask();
  await closing;
  expect(new Set(await Promise.all(asked))).toEqual(new Set(['shutting_down']));
  expect(readdirSync(path.join(directory, 'segments'))).toEqual([]);
});

/** Overwrites the root of the table of idempotency keys. */
const breakKeys = (): void => {
  const file = path.join(directory, 'sluice.db');
  const db = new DatabaseSync(file);
  const row = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'idempotency'").get();
  db.close();
  const { rootpage } = row as { rootpage: number };
  const bytes = readFileSync(file);
  writeFileSync(file, bytes.fill(0x5a, (rootpage - 1) * 4096, rootpage * 4096));
};

const EMBEDDED = path.resolve(import.meta.dirname, '../../../shared/store/embedded/index.ts');

/** The status of a process that admits a call when nobody reads its standard error any more. */
const exitOf = async (versionId: number, payload: string): Promise<number> => {
  const script = `import { openEmbeddedStore } from ${JSON.stringify(EMBEDDED)};
    const server = await openEmbeddedStore(${JSON.stringify({ ...LIMITS, directory, durability: 'memory' })});
    const { queue } = server.connect();
    process.stdin.once('data', () => queue.admit({
      now: 0, functionName: 'f', versionId: ${versionId}, apiKeyId: 0, lane: '', priority: 0, deadlineAt: null, rows: 1,
      bytes: 8, schemaKey: '', payload: ${payload}, idempotency: { key: 'a', bodyDigest: 'x' }, metadata: {}, traceparent: null,
    }));
    process.stdout.write('open');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const exited = once(child, 'exit');
  await Promise.race([once(child.stdout, 'data'), exited]);
  child.stderr.destroy();
  child.stdin.write('go');
  return (await exited)[0];
};

it.each([
  ['a group', "{ kind: 'json', text: '[[1]]' }"],
  ['a look at what shall be staged', "{ kind: 'arrow', bytes: new Uint8Array(100_000) }"],
])(
  'ends its process with 70 where the disk fails %s, also when nobody reads standard error',
  async (_, payload) => {
    const shop = await makeShop();
    await shop.admit(1, { idempotency: { key: 'b', bodyDigest: 'x' } });
    const { versionId } = shop;
    await shop.close();
    breakKeys();
    expect(await exitOf(versionId, payload)).toBe(70);
  },
);
