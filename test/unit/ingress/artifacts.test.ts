/** Artifacts over HTTP: pieces, ranges, and everything that a sender can get wrong. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openArtifacts } from '../../../shared/store/artifacts/index.ts';
import { type Answer, type Rig, raw, startRig } from './rig.ts';

const MiB = 2 ** 20;
let directory: string;
let rig: Rig;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-artifacts-'));
  rig = await startRig({ artifacts: directory, bodyBytesMax: '1MiB', diskReserve: '1MiB' });
});
afterAll(async () => {
  await rig.stop();
  rmSync(directory, { recursive: true, force: true });
});

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const file = (length: number) => {
  const bytes = randomBytes(length);
  return { bytes, digest: digestOf(bytes), route: `/v1/artifacts/${digestOf(bytes)}` };
};
const told = (offset: unknown, length: unknown) => ({
  'upload-offset': String(offset),
  'upload-length': String(length),
  'content-type': 'application/octet-stream',
});
const patch = (
  route: string,
  bytes: Uint8Array,
  offset: unknown,
  length: unknown,
  more: Record<string, string> = {},
): Promise<Answer> =>
  rig.ask(route, { method: 'PATCH', body: bytes as never, headers: { ...told(offset, length), ...more } });
const head = async (route: string) => {
  const { status, headers } = await fetch(rig.address + route, { method: 'HEAD' });
  const [offset, length, complete] = ['upload-offset', 'upload-length', 'upload-complete'].map((name) =>
    headers.get(name),
  );
  return { status, offset, length, complete };
};
const state = (offset: number, length: number) => ({
  ...{ status: 200, offset: String(offset), length: String(length) },
  complete: offset === length ? '?1' : '?0',
});

/** The head of a PATCH, for bodies that fetch would not send. */
const patchHead = (route: string, more: string): string =>
  `PATCH ${route} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/octet-stream\r\n${more}\r\n`;
const opened = (): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket: Socket = connect(rig.port, '127.0.0.1', () => resolve(socket));
    socket.once('error', reject);
  });

describe('an artifact', () => {
  it('comes in pieces beyond the limit of other bodies, and is read back', async () => {
    const { bytes, digest, route } = file(5 * MiB + 3);
    expect(await head(route)).toEqual({ status: 200, offset: '0', length: null, complete: '?0' });
    const first = await patch(route, bytes.subarray(0, 3 * MiB), 0, bytes.length);
    expect([first.status, first.headers.get('upload-offset')]).toEqual([204, String(3 * MiB)]);
    expect(first.headers.get('upload-complete')).toBe('?0');
    expect(await head(route)).toEqual(state(3 * MiB, bytes.length));
    const last = await patch(route, bytes.subarray(3 * MiB), 3 * MiB, bytes.length);
    expect([last.status, last.headers.get('upload-complete')]).toEqual([204, '?1']);
    expect(await head(route)).toEqual(state(bytes.length, bytes.length));
    const got = await fetch(rig.address + route);
    expect([got.status, got.headers.get('content-length')]).toEqual([200, String(bytes.length)]);
    expect(digestOf(new Uint8Array(await got.arrayBuffer()))).toBe(digest);
    expect((await patch(route, bytes, 0, bytes.length)).headers.get('upload-complete')).toBe('?1');
  });

  it('may be empty', async () => {
    const { bytes, route } = file(0);
    expect((await patch(route, bytes, 0, 0)).status).toBe(204);
    expect(await head(route)).toEqual(state(0, 0));
    const got = await rig.ask(route);
    expect([got.status, got.text, got.headers.get('content-length')]).toEqual([200, '', '0']);
    expect((await rig.ask(route, { headers: { range: 'bytes=0-' } })).status).toBe(416);
  });

  it('may have a percent-encoded digest', async () => {
    const { bytes, route } = file(10);
    await patch(route.replace('sha256:', 'sha256%3A'), bytes, 0, 10);
    expect(await head(route)).toEqual(state(10, 10));
  });

  it('is read in ranges', async () => {
    const { bytes, route } = file(1000);
    await patch(route, bytes, 0, 1000);
    const part = async (range: string) => {
      const got = await fetch(rig.address + route, { headers: { range } });
      const body = Buffer.from(await got.arrayBuffer());
      return { status: got.status, range: got.headers.get('content-range'), body };
    };
    const at = (from: number, to: number) => ({
      ...{ status: 206, range: `bytes ${from}-${to - 1}/1000` },
      body: bytes.subarray(from, to),
    });
    expect(await part('bytes=0-0')).toEqual(at(0, 1));
    expect(await part('bytes=990-')).toEqual(at(990, 1000));
    expect(await part('bytes=-10')).toEqual(at(990, 1000));
    expect(await part('bytes=-5000')).toEqual(at(0, 1000));
    expect(await part('bytes=10-99999')).toEqual(at(10, 1000));
    for (const ignored of ['rows=0-1', 'bytes=5-1', 'bytes=-', 'bytes=0-1,5-6', 'nonsense'])
      expect(await part(ignored)).toEqual({ status: 200, range: null, body: bytes });
    for (const outside of ['bytes=1000-', 'bytes=-0', 'bytes=5000-6000']) {
      const { status, range, body } = await part(outside);
      expect([status, range, JSON.parse(String(body)).code]).toEqual([
        ...[416, 'bytes */1000', 'range_not_satisfiable'],
      ]);
    }
  });

  it('is asked for under conditions', async () => {
    const { bytes, digest, route } = file(1000);
    await patch(route, bytes, 0, 1000);
    const etag = `"${digest}"`;
    const get = async (headers: Record<string, string>) => {
      const answer = await rig.ask(route, { headers });
      return [answer.status, answer.headers.get('etag'), answer.text.length > 0];
    };
    for (const held of [etag, `W/${etag}`, `"x", ${etag}`, '*'])
      expect(await get({ 'if-none-match': held }), held).toEqual([304, etag, false]);
    expect(await get({ 'if-none-match': '"x"' })).toEqual([200, etag, true]);
    expect(await get({ 'if-none-match': etag, range: 'bytes=0-1' })).toEqual([304, etag, false]);
    for (const wanted of [etag, '*', `"x",${etag}`])
      expect(await get({ 'if-match': wanted }), wanted).toEqual([200, etag, true]);
    const failed = await rig.ask(route, { headers: { 'if-match': `W/${etag}` } });
    expect([failed.status, failed.json.code, failed.json.field]).toEqual([
      412,
      'precondition_failed',
      'If-Match',
    ]);
    expect((await get({ 'if-range': etag, range: 'bytes=0-1' }))[0]).toBe(206);
    for (const other of ['"x"', `W/${etag}`, 'Wed, 21 Oct 2099 07:28:00 GMT'])
      expect((await get({ 'if-range': other, range: 'bytes=0-1' }))[0], other).toBe(200);
    const missing = await rig.ask(file(3).route, { headers: { 'if-match': '"x"', 'if-none-match': '*' } });
    expect(missing.status).toBe(404);
  });

  it('is not there before it is whole', async () => {
    const { bytes, route } = file(100);
    expect((await rig.ask(route)).json).toMatchObject({ status: 404, code: 'artifact_not_found' });
    await patch(route, bytes.subarray(0, 50), 0, 100);
    const answer = await rig.ask(route, { headers: { range: 'bytes=0-9' } });
    expect(answer.json).toMatchObject({ status: 404, code: 'artifact_not_found' });
  });

  it('is in the description of the interface', async () => {
    const { json } = await rig.ask('/openapi.json');
    const { patch: piece, get, head: asked } = json.paths['/v1/artifacts/{digest}'];
    expect(Object.keys(piece.requestBody.content)).toEqual(['application/octet-stream']);
    expect(piece.parameters.map(({ name }: { name: string }) => name)).toContain('upload-offset');
    expect(Object.keys(get.responses)).toEqual(expect.arrayContaining(['200', '206', '404', '416']));
    expect(asked.tags).toEqual(['artifacts']);
  });
});

describe('a piece is refused', () => {
  const some = file(1000);
  it.each([
    ['a digest of another kind', '/v1/artifacts/md5:abc', 0, 1000, 400, 'invalid_request'],
    [
      'upper case',
      some.route.toUpperCase().replace('/V1/ARTIFACTS', '/v1/artifacts'),
      0,
      1000,
      400,
      'invalid_request',
    ],
    ['a path in the digest', '/v1/artifacts/..%2F..%2Fetc%2Fpasswd', 0, 1000, 400, 'invalid_request'],
    ['a path behind the digest', `${some.route}%2F..%2Fx`, 0, 1000, 400, 'invalid_request'],
    ['a zero byte in the digest', `${some.route}%00`, 0, 1000, 400, 'invalid_request'],
    ['a negative offset', some.route, -1, 1000, 400, 'invalid_request'],
    ['an offset beyond the length', some.route, 1001, 1000, 400, 'invalid_request'],
    ['no number as offset', some.route, '1e3', 1000, 400, 'invalid_request'],
    ['an empty length', some.route, 0, '', 400, 'invalid_request'],
    ['a length above 2^53', some.route, 0, '9999999999999999', 400, 'invalid_request'],
    ['a length of many digits', some.route, 0, '9'.repeat(400), 400, 'invalid_request'],
    ['a length above 1 TiB', some.route, 0, 2 ** 40 + 1, 413, 'payload_too_large'],
    ['a length below the body', some.route, 0, 999, 413, 'payload_too_large'],
    ['an offset that nothing reached', some.route, 5, 2000, 409, 'artifact_offset_conflict'],
  ])('with %s', async (_what, route, offset, length, status, code) => {
    const answer = await patch(route, some.bytes, offset, length);
    expect(answer.json).toMatchObject({ status, code });
    expect((await head(some.route)).offset).toBe('0');
  });

  it.each(['upload-offset', 'upload-length'])('without %s', async (name) => {
    const headers: Record<string, string> = told(0, 1000);
    delete headers[name];
    const answer = await rig.ask(some.route, { method: 'PATCH', body: some.bytes, headers });
    expect(answer.json).toMatchObject({ status: 400, code: 'invalid_request', field: name });
    expect(answer.json.detail).toMatch(`The header ${name} is missing`);
  });

  it('of another type, or compressed', async () => {
    for (const [field, value] of [
      ['content-type', 'application/json'],
      ['content-type', 'text/plain'],
      ['content-encoding', 'gzip'],
    ] as const) {
      const { status, json } = await patch(some.route, some.bytes, 0, 1000, { [field]: value });
      expect([status, json.field]).toEqual([415, field]);
      expect(json.detail).toContain(JSON.stringify(value));
      if (field === 'content-type') expect(json.detail).toContain('takes application/octet-stream');
    }
  });

  it('with another length than before, unless it begins anew', async () => {
    const { bytes, route } = file(1000);
    await patch(route, bytes.subarray(0, 300), 0, 2000);
    const answer = await patch(route, bytes.subarray(300), 300, 1000);
    expect(answer.json).toMatchObject({ status: 409, upload_offset: 0, upload_length: 2000 });
    expect((await patch(route, bytes, 0, 1000)).status).toBe(204);
  });

  it('at another offset, also in front of a body that nobody will read', async () => {
    const { bytes, route } = file(1000);
    await patch(route, bytes.subarray(0, 300), 0, 2 ** 30);
    const socket = await opened();
    socket.on('error', () => undefined);
    let text = '';
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    const head = `upload-offset: 5\r\nupload-length: ${2 ** 30}\r\ncontent-length: ${2 ** 30 - 5}\r\n`;
    socket.write(patchHead(route, head).replace('connection: close\r\n', ''));
    await closed;
    expect(text).toMatch(/^HTTP\/1\.1 409 /);
    expect(text).toMatch(/"upload_offset":300/);
  });

  it('when the bytes have another digest; what came is dropped', async () => {
    const { bytes, route } = file(1000);
    await patch(route, bytes.subarray(0, 500), 0, 1000);
    const answer = await patch(route, randomBytes(500), 500, 1000);
    expect(answer.json).toMatchObject({ status: 422, code: 'artifact_digest_mismatch', retryable: false });
    expect(await head(route)).toEqual({ status: 200, offset: '0', length: null, complete: '?0' });
    await patch(route, bytes, 0, 1000);
    expect(await head(route)).toEqual(state(1000, 1000));
  });

  it('when the disk has no room for the file', async () => {
    const { bytes, route } = file(1000);
    const { bavail, bsize } = statfsSync(directory);
    const length = Math.min(bavail * bsize + 2 ** 30, 2 ** 40);
    const answer = await patch(route, bytes, 0, length);
    expect(answer.json).toMatchObject({ status: 507, code: 'disk_full', retryable: true });
    expect(answer.json.detail).toMatch(/--disk-reserve/);
    expect(answer.headers.get('retry-after')).not.toBeNull();
  });
});

describe('a body', () => {
  /** Resolves when the server has so much of it on disk. */
  const reached = async (route: string, offset: number): Promise<void> => {
    while (Number((await head(route)).offset) < offset);
  };

  it('that is cut off is kept as far as it came', async () => {
    const { bytes, route } = file(4 * MiB);
    const socket = await opened();
    socket.write(
      patchHead(route, `upload-offset: 0\r\nupload-length: ${4 * MiB}\r\ncontent-length: ${4 * MiB}\r\n`),
    );
    socket.write(bytes.subarray(0, 3 * MiB));
    await reached(route, 2 * MiB);
    socket.destroy();
    await reached(route, 3 * MiB);
    expect(await head(route)).toEqual(state(3 * MiB, 4 * MiB));
    expect((await patch(route, bytes.subarray(3 * MiB), 3 * MiB, 4 * MiB)).status).toBe(204);
    expect(await head(route)).toEqual(state(4 * MiB, 4 * MiB));
  });

  it('in chunks needs no length, and is refused when it has more than is left', async () => {
    const { bytes, route } = file(1000);
    const chunk = (part: Uint8Array) => [`${part.length.toString(16)}\r\n`, part, '\r\n'];
    const more = 'upload-offset: 0\r\nupload-length: 1000\r\ntransfer-encoding: chunked\r\n';
    const fine = [...chunk(bytes.subarray(0, 400)), ...chunk(bytes.subarray(400)), '0\r\n\r\n'];
    expect(await raw(rig.port, patchHead(route, more), ...fine)).toMatch(
      /^HTTP\/1\.1 204 [\s\S]*upload-complete: \?1/i,
    );
    const other = file(1000);
    const long = [...chunk(other.bytes), ...chunk(Buffer.from('more')), '0\r\n\r\n'];
    expect(await raw(rig.port, patchHead(other.route, more), ...long)).toMatch(/^HTTP\/1\.1 413 /);
    expect((await head(other.route)).complete).toBe('?0');
  });

  it('that is slow lets others through, and a second one waits for it', async () => {
    const { bytes, route } = file(2 * MiB);
    const other = file(100);
    const socket = await opened();
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.write(
      patchHead(route, `upload-offset: 0\r\nupload-length: ${2 * MiB}\r\ncontent-length: ${2 * MiB}\r\n`),
    );
    socket.write(bytes.subarray(0, MiB + 1));
    await reached(route, MiB);
    expect((await patch(other.route, other.bytes, 0, 100)).status).toBe(204);
    const second = patch(route, bytes, 0, 2 * MiB);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket.write(bytes.subarray(MiB + 1));
    await ended;
    expect(text).toMatch(/^HTTP\/1\.1 204 /);
    // It comes behind: the file is whole, or was at another offset when it looked.
    expect([204, 409]).toContain((await second).status);
    expect(await head(route)).toEqual(state(2 * MiB, 2 * MiB));
  });

  it('that nobody reads any more does not keep the file open', async () => {
    const { bytes, route } = file(8 * MiB);
    await patch(route, bytes, 0, bytes.length);
    const socket = await opened();
    socket.write(`GET ${route} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    const got = await fetch(rig.address + route);
    expect(Buffer.from(await got.arrayBuffer()).equals(bytes)).toBe(true);
  });
});

describe('what a crash left', () => {
  it('is continued by the next process', async () => {
    const { bytes, digest, route } = file(1000);
    const artifacts = openArtifacts({ kind: 'directory', directory, reserveBytes: 0 });
    const body = (async function* () {
      yield bytes.subarray(0, 400);
    })();
    await artifacts.append({ digest, offsetBytes: 0, bytes: 1000, body });
    expect(await head(route)).toEqual(state(400, 1000));
    expect((await patch(route, bytes.subarray(400), 400, 1000)).status).toBe(204);
  });
});

describe('all three', () => {
  it('need the scope deploy to be sent, and call to be read', async () => {
    const locked = await startRig({ artifacts: directory });
    const key = async (scopes: string[], secret = '') =>
      (await locked.post('/v1/keys', { name: scopes[0], scopes }, { authorization: `Bearer ${secret}` })).json
        .secret;
    const admin = await key(['admin']);
    const [caller, deployer] = [await key(['call'], admin), await key(['deploy'], admin)];
    const { bytes, digest, route } = file(10);
    const statuses = async (secret: string | null) => {
      const authorization: Record<string, string> =
        secret === null ? {} : { authorization: `Bearer ${secret}` };
      const ask = (init: RequestInit, more = {}) =>
        fetch(locked.address + route, { ...init, headers: { ...authorization, ...more } });
      const sent = await ask({ method: 'PATCH', body: bytes }, told(0, 10));
      return [sent.status, (await ask({ method: 'HEAD' })).status, (await ask({})).status];
    };
    expect(await statuses(null)).toEqual([401, 401, 401]);
    expect(await statuses(deployer)).toEqual([204, 200, 403]);
    expect(await statuses(caller)).toEqual([403, 403, 200]);
    expect(digest).toBe(digestOf(bytes));
    await locked.stop();
  });
});
