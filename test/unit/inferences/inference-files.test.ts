import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type InferenceFile, inferenceFileKey } from '../../../shared/domain/inference.ts';
import { DEPLOYMENT, REGISTRATION } from '../../support/model-registration.ts';
import { type Rig, startRig } from '../ingress/rig.ts';

const HOUR_MS = 3_600_000;
const BEGIN = Date.UTC(2026, 10, 1);

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
  await rig.post('/v1/models/house/versions', REGISTRATION);
});
afterAll(() => rig.stop());

const fileOf = (group: string, from: number, until = from): InferenceFile => ({
  ...{ group, from, until, digest: `sha256:${'ab'.repeat(32)}`, bytes: 10, rows: 2 },
  ...{ model: 'house', modelVersion: 1, functionVersion: 'v', retentionMs: HOUR_MS },
});
const put = (file: InferenceFile) =>
  rig.store.documents.put({
    kind: 'inference-file',
    key: inferenceFileKey(file, randomUUID()),
    revision: null,
    value: file,
  });
const deploy = (group: string, more: object = {}) =>
  rig.ask(`/v1/scaling-groups/${group}`, {
    method: 'PUT',
    body: JSON.stringify({ ...DEPLOYMENT, ...more }),
    headers: { 'content-type': 'application/json' },
  });
const list = async (group: string, query = '') =>
  (await rig.ask(`/v1/scaling-groups/${group}/inference-files${query}`)).json;
const hour = (hours: number): number => BEGIN + hours * HOUR_MS;
const text = (at: number): string => new Date(at).toISOString();

describe('the member inference_store of a deployment', () => {
  it('has defaults, is shown, and is part of the version; without it the digest is what it was', async () => {
    const plain = await deploy('plain');
    expect([plain.status, plain.json.inference_store]).toEqual([201, null]);
    const before = await rig.store.registry.function('model.plain');
    expect(before!.current.spec).not.toHaveProperty('inferenceStore');
    const kept = await deploy('kept', { inference_store: { sample_rate: null } });
    expect(kept.json.inference_store).toEqual({
      ...{ sample_rate: 1, retention_ms: 604_800_000, flush_ms: 60_000 },
    });
    const { spec } = (await rig.store.registry.function('model.kept'))!.current;
    expect(spec.inferenceStore).toEqual({ sampleRate: 1, retentionMs: 604_800_000, flushMs: 60_000 });
    const shown = await rig.ask('/v1/functions/model.kept');
    expect(shown.json.spec.inference_store).toEqual(kept.json.inference_store);
    const off = await deploy('kept', { inference_store: null });
    expect(off.json.update.version).toBe(1);
  });

  it.each([
    ['sample_rate', 0, 'a share above 0'],
    ['sample_rate', 1.01, 'a number from 0 to 1'],
    ['sample_rate', '1', 'a number'],
    ['retention_ms', 59_999, 'from 60000 to 34560000000'],
    ['retention_ms', 34_560_000_001, 'from 60000 to 34560000000'],
    ['flush_ms', 99, 'from 100 to 3600000'],
    ['flush_ms', 3_600_001, 'from 100 to 3600000'],
    ['flush_ms', 100.5, 'a whole number'],
    ['rate', 1, 'is not an option'],
  ])('refuses %s = %j', async (name, value, want) => {
    const { status, json } = await deploy('wrong', { inference_store: { [name]: value } });
    expect([status, json.code, json.field]).toEqual([
      422,
      'invalid_scaling_group',
      `inference_store.${name}`,
    ]);
    expect(json.detail).toContain(want);
  });

  it('is refused where it is no object, and by functions of their own', async () => {
    const { json } = await deploy('wrong', { inference_store: true });
    expect(json.detail).toContain('inference_store is true; give an object with sample_rate');
    const own = await rig.deploy('own', { inference_store: { sample_rate: 1 } });
    expect(own).toMatchObject({ code: 'invalid_function', field: 'inference_store' });
    expect((await rig.deploy('own', { inference_store: null })).name).toBe('own');
  });
});

describe('the list of inference files', () => {
  it('goes by time, page by page, with files that reach into the range', async () => {
    await deploy('paged');
    // Another group's files lie beside them.
    for (const group of ['paged', 'paged.b', 'page'])
      for (const begin of [0, 1, 2, 3]) await put(fileOf(group, hour(begin), hour(begin) + HOUR_MS / 2));
    const all = await list('paged');
    expect(all.inference_files.map(({ from }: { from: string }) => from)).toEqual(
      [0, 1, 2, 3].map(hour).map(text),
    );
    expect(all.next).toBeNull();
    expect(all.inference_files[0]).toEqual({
      digest: `sha256:${'ab'.repeat(32)}`,
      href: `/v1/artifacts/sha256:${'ab'.repeat(32)}`,
      ...{ bytes: 10, rows: 2, from: text(hour(0)), until: text(hour(0.5)), expires_at: text(hour(1.5)) },
      ...{ model: 'house', model_version: 1, function_version: 'v' },
    });
    const range = await list('paged', `?from=${text(hour(1.5))}&until=${text(hour(3))}`);
    expect(range.inference_files.map(({ from }: { from: string }) => from)).toEqual(
      [1, 2].map(hour).map(text),
    );
    const after = await list('paged', `?from=${text(hour(1.5) + 1)}&until=${text(hour(3) + 1)}`);
    expect(after.inference_files.map(({ from }: { from: string }) => from)).toEqual(
      [2, 3].map(hour).map(text),
    );
    const seen: string[] = [];
    for (let next: string | null = ''; next !== null; ) {
      const page = await list('paged', `?limit=1${next === '' ? '' : `&after=${next}`}`);
      seen.push(...page.inference_files.map(({ from }: { from: string }) => from));
      next = page.next;
    }
    expect(seen).toEqual([0, 1, 2, 3].map(hour).map(text));
  });

  it('is 404 without the group and without files; a deleted group keeps its files', async () => {
    for (const name of ['nobody', 'a%2Fb', '.'.repeat(3), 'x'.repeat(300)])
      expect((await rig.ask(`/v1/scaling-groups/${name}/inference-files`)).status).toBe(404);
    await put(fileOf('deleted', hour(1)));
    expect((await list('deleted')).inference_files).toHaveLength(1);
    await deploy('empty');
    expect(await list('empty')).toEqual({ inference_files: [], next: null });
  });

  it.each(['from=yesterday', 'until=2026-13-01T00:00:00Z', 'limit=0', 'limit=1001', 'after=x', 'group=a'])(
    'refuses %s',
    async (query) => {
      const { status, json } = await rig.ask(`/v1/scaling-groups/paged/inference-files?${query}`);
      expect([status, json.code]).toEqual([400, 'invalid_request']);
    },
  );

  it('is for keys that may deploy', async () => {
    const own = await startRig();
    try {
      const make = async (scopes: string[], secret?: string) =>
        (
          await own.post(
            '/v1/keys',
            { name: scopes.join(), scopes },
            secret === undefined ? {} : { authorization: `Bearer ${secret}` },
          )
        ).json.secret as string;
      const admin = await make(['admin']);
      const [caller, deployer] = [await make(['call'], admin), await make(['deploy'], admin)];
      const ask = (key: string) =>
        own.ask('/v1/scaling-groups/any/inference-files', { headers: { authorization: `Bearer ${key}` } });
      await own.store.documents.put({
        ...{ kind: 'inference-file', key: inferenceFileKey(fileOf('any', BEGIN), randomUUID()) },
        ...{ revision: null, value: fileOf('any', BEGIN) },
      });
      expect((await ask(caller)).json).toMatchObject({ code: 'forbidden', scope: 'deploy' });
      expect((await ask(deployer)).status).toBe(200);
      expect((await ask(admin)).status).toBe(200);
    } finally {
      await own.stop();
    }
  });
});
