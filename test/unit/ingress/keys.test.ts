import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey } from '../../../services/ingress/api-keys.ts';
import { makeIngress } from '../../../services/ingress/pool.ts';
import { compileSettings } from '../../../shared/config/settings.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { REGISTRATION } from '../../support/model-registration.ts';
import { openStore, type Rig, spec, startRig } from './rig.ts';

let rig: Rig;
let admin: string;
const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });
const text = { columns: { text: ['a'] } };

beforeAll(async () => {
  rig = await startRig({ ingressThreads: '2' });
  const worker = await rig.post('/v1/keys', { name: 'w', scopes: ['call'] });
  expect([worker.status, worker.json.field]).toEqual([400, 'scopes']);
  const made = await rig.post('/v1/keys', { name: 'root', scopes: ['admin'] });
  expect(made.status).toBe(201);
  admin = made.json.secret;
});
afterAll(() => rig.stop());

const keyOf = async (name: string, ...scopes: string[]) =>
  (await rig.post('/v1/keys', { name, scopes }, bearer(admin))).json;

describe('with keys, the server', () => {
  it('asks for one on every thread', async () => {
    const answers = await Promise.all(Array.from({ length: 16 }, () => rig.ask('/v1/functions')));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
    expect(answers[0]!.headers.get('www-authenticate')).toMatch(/^Bearer/);
    for (const path of ['/livez', '/readyz', '/metrics', '/openapi.json', '/v1/server']) {
      expect((await rig.ask(path)).status).toBe(200);
    }
  });

  it.each(['Bearer', 'Basic abc', 'Bearer sk_wrong', 'sk_wrong', `Bearer ${'x'.repeat(5000)}`])(
    'refuses "%s"',
    async (value) => {
      const { status, json } = await rig.ask('/v1/functions', { headers: { authorization: value } });
      expect([status, json.code]).toEqual([401, 'unauthorized']);
    },
  );

  it('shows a secret once, and stores its digest', async () => {
    const { secret, id } = await keyOf('once', 'call');
    expect(secret).toMatch(/^sk_[\w-]{43}$/);
    const { text: listed, json } = await rig.ask('/v1/keys', { headers: bearer(admin) });
    expect(listed).not.toContain(secret.slice(12));
    const key = json.keys.find((one: { id: string }) => one.id === id);
    expect(key).toMatchObject({ name: 'once', scopes: ['call'], prefix: secret.slice(0, 8) });
    expect(key.secret).toBeUndefined();
  });

  it('checks scopes', async () => {
    const { secret: caller } = await keyOf('caller', 'call');
    const { secret: deployer } = await keyOf('deployer', 'deploy');
    expect((await rig.post('/v1/functions', { function: spec('f') }, bearer(deployer))).status).toBe(201);
    const deploy = await rig.post('/v1/functions', { function: spec('g') }, bearer(caller));
    expect([deploy.status, deploy.json.code, deploy.json.scope]).toEqual([403, 'forbidden', 'deploy']);
    expect((await rig.post('/v1/functions/f/calls', text, bearer(deployer))).status).toBe(403);
    expect((await rig.post('/v1/functions/f/calls', text, bearer(caller))).status).toBe(202);
    expect((await rig.ask('/v1/keys', { headers: bearer(caller) })).status).toBe(403);
  });

  it('shows the values of environment variables to those who may deploy', async () => {
    const both = (await keyOf('both', 'call', 'deploy')).secret;
    const caller = (await keyOf('reader', 'call')).secret;
    const environment = { env: { TOKEN: 'hunter2' } };
    const secretive = { ...spec('secretive'), environment };
    expect((await rig.post('/v1/functions', { function: secretive }, bearer(both))).status).toBe(201);
    expect((await rig.post('/v1/models/m/versions', REGISTRATION, bearer(both))).status).toBe(201);
    const { status } = await rig.ask('/v1/scaling-groups/secretive', {
      method: 'PUT',
      headers: { ...bearer(both), 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'm', ...environment }),
    });
    expect(status).toBe(201);
    const things = ['/v1/functions', '/v1/functions/secretive', '/v1/functions/model.secretive'];
    for (const route of [...things, '/v1/scaling-groups', '/v1/scaling-groups/secretive']) {
      expect((await rig.ask(route, { headers: bearer(both) })).text, route).toContain('"TOKEN":"hunter2"');
      const read = await rig.ask(route, { headers: bearer(caller) });
      expect([read.status, read.text], route).toEqual([200, expect.stringContaining('"TOKEN":"***"')]);
      expect(read.text, route).not.toContain('hunter2');
    }
  });

  it('shows Containerfiles, which set variables too, to those who may deploy', async () => {
    const both = (await keyOf('builder', 'call', 'deploy')).secret;
    const caller = (await keyOf('onlooker', 'call')).secret;
    const image = { containerfile: 'FROM debian\nENV TOKEN=hunter2\n', context: [] };
    const registration = { ...REGISTRATION, image, handler: null, source: [] };
    expect((await rig.post('/v1/models/built/versions', registration, bearer(both))).status).toBe(201);
    const { status } = await rig.ask('/v1/scaling-groups/built', {
      method: 'PUT',
      headers: { ...bearer(both), 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'built', image }),
    });
    expect(status).toBe(201);
    const versions = ['/v1/models/built/versions', '/v1/models/built/versions/1'];
    for (const route of [...versions, '/v1/scaling-groups/built', '/v1/functions/model.built']) {
      expect((await rig.ask(route, { headers: bearer(both) })).text, route).toContain('hunter2');
      const read = await rig.ask(route, { headers: bearer(caller) });
      expect([read.status, read.text], route).toEqual([
        200,
        expect.stringContaining('"containerfile":"***"'),
      ]);
      expect(read.text, route).not.toContain('hunter2');
    }
  });

  it("hides another key's calls, but not from admin, and lanes them by key", async () => {
    await rig.post('/v1/functions', { function: spec('shared') }, bearer(admin));
    const a = await keyOf('a', 'call');
    const b = await keyOf('b', 'call');
    const { json } = await rig.post('/v1/functions/shared/calls', text, bearer(a.secret));
    expect(json.lane).toBe('a');
    const routes = [`/v1/calls/${json.call_id}`, `/v1/calls/${json.call_id}/result?partial=true`];
    for (const route of [...routes, `/v1/calls/${json.call_id}/events`]) {
      expect((await rig.ask(route, { headers: bearer(b.secret) })).json.code).toBe('call_not_found');
    }
    for (const route of routes)
      expect((await rig.ask(route, { headers: bearer(a.secret) })).status).toBe(200);
    for (const route of routes) expect((await rig.ask(route, { headers: bearer(admin) })).status).toBe(200);
    const cancel = await rig.ask(`/v1/calls/${json.call_id}`, {
      method: 'DELETE',
      headers: bearer(b.secret),
    });
    expect(cancel.status).toBe(404);
    const own = await rig.ask('/v1/calls', { headers: bearer(b.secret) });
    expect(own.json.calls).toEqual([]);
    const same = { 'idempotency-key': 'x' };
    const first = await rig.post('/v1/functions/shared/calls', text, { ...bearer(a.secret), ...same });
    const other = await rig.post('/v1/functions/shared/calls', text, { ...bearer(b.secret), ...same });
    expect(other.json.call_id).not.toBe(first.json.call_id);
  });

  it('keeps the last key that may administer, while there are others', async () => {
    const made = await keyOf('second root', 'admin');
    const { json } = await rig.ask('/v1/keys', { headers: bearer(admin) });
    const root = json.keys.find(({ name }: { name: string }) => name === 'root');
    const revoke = (id: string) => rig.ask(`/v1/keys/${id}`, { method: 'DELETE', headers: bearer(admin) });
    expect((await revoke(made.id)).status).toBe(204);
    const refused = await revoke(root.id);
    expect([refused.status, refused.json.code, refused.json.field]).toEqual([400, 'invalid_request', 'id']);
    expect((await rig.ask('/v1/keys', { headers: bearer(admin) })).status).toBe(200);
  });

  it('forgets a revoked key at once, on every thread', async () => {
    const { secret, id } = await keyOf('short', 'call');
    const ask = () => rig.ask('/v1/functions', { headers: bearer(secret) });
    const before = await Promise.all(Array.from({ length: 16 }, ask));
    expect(new Set(before.map(({ status }) => status))).toEqual(new Set([200]));
    expect((await rig.ask(`/v1/keys/${id}`, { method: 'DELETE', headers: bearer(admin) })).status).toBe(204);
    const after = await Promise.all(Array.from({ length: 16 }, ask));
    expect(new Set(after.map(({ status }) => status))).toEqual(new Set([401]));
    for (const wrong of [id, 'k0', 'k999999', 'x']) {
      const gone = await rig.ask(`/v1/keys/${wrong}`, { method: 'DELETE', headers: bearer(admin) });
      expect(gone.status).toBe(404);
    }
  });

  it('refuses bodies that make no key', async () => {
    for (const body of [
      {},
      { name: 'x', scopes: [] },
      { name: 'x', scopes: ['root'] },
      { name: 5, scopes: ['call'] },
    ]) {
      const { status, json } = await rig.post('/v1/keys', body, bearer(admin));
      expect([status, json.code]).toEqual([400, 'invalid_request']);
    }
    const { status, json } = await rig.post(
      '/v1/keys',
      { name: 'x', scopes: ['call'], secret: 'y' },
      bearer(admin),
    );
    expect([status, json.field]).toEqual([400, 'secret']);
  });
});

describe('an address that others reach', () => {
  it('is refused without keys, and taken with one', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'sluice-keys-'));
    const server = await openStore(directory);
    const settings = compileSettings({
      host: '0.0.0.0',
      port: '0',
      ingressThreads: '1',
      grace: '5s',
      logLevel: 'silent',
    });
    const bare = makeIngress({ settings, server, log: silentLog() });
    await expect(bare.start()).rejects.toThrow(/`sluice keys create NAME --scope admin`/);
    await bare.stop();
    const store = server.connect();
    await createApiKey(store.keys, 'offline', ['admin']);
    const keyed = makeIngress({ settings, server, log: silentLog() });
    await keyed.start();
    expect((await fetch(`http://127.0.0.1:${new URL(keyed.address()).port}/v1/functions`)).status).toBe(401);
    await keyed.stop();
    await store.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
});
