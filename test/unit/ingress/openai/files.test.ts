/** Files over HTTP: what an upload and a list refuse. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../../../support/sluice-process.ts';
import { type Answer, type Rig, startRig } from '../rig.ts';

let rig: Rig;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-files-'));
  rig = await startRig({ artifacts: directory, diskReserve: '1MiB' });
});
afterAll(async () => {
  await rig.stop();
  rmSync(directory, { recursive: true, force: true });
});

const upload = (parts: readonly (readonly [string, string])[], query = ''): Promise<Answer> => {
  const body = new FormData();
  for (const [name, text] of parts)
    if (name === 'file') body.append(name, new File([text], 'f.jsonl'));
    else body.append(name, text);
  return rig.ask(`/v1/files${query}`, { method: 'POST', body });
};
const WHOLE = [
  ['purpose', 'batch'],
  ['file', '{}\n'],
] as const;
const refusal = ({ status, json }: Answer) => [status, json.error?.param, json.error?.message];

it('an upload has one file, and no part and no query parameter that is not known', async () => {
  expect(refusal(await upload([...WHOLE, ['file', '{}\n']]))).toEqual([
    ...[400, 'file'],
    'The body has several files; send each with a request of its own.',
  ]);
  for (const parts of [
    [['colour', 'red'], ...WHOLE],
    [...WHOLE, ['colour', 'red']],
  ] as const)
    expect(refusal(await upload(parts))).toEqual([400, 'colour', expect.stringContaining('no part')]);
  expect(refusal(await upload(WHOLE, '?x=1'))).toEqual([400, 'x', expect.any(String)]);
  const kept = [
    ...WHOLE,
    ['expires_after[anchor]', 'created_at'],
    ['expires_after[seconds]', '3600'],
  ] as const;
  expect((await upload(kept)).status).toBe(200);
});

it('whoever leaves in the middle of an upload gives its place back, and is no fault of ours', async () => {
  const head = `POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=X\r\n`;
  const part = '--X\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n';
  const sockets: Socket[] = [];
  await eventually('all places are taken', async () => {
    const socket = connect(rig.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(`${head}content-length: 1000000\r\n\r\n${part}${'x'.repeat(20_000)}`);
    sockets.push(socket);
    return (await upload(WHOLE)).status === 429;
  });
  for (const socket of sockets) socket.resetAndDestroy();
  await eventually('there is a place', async () => (await upload(WHOLE)).status === 200);
  expect((await rig.ask('/metrics')).text).not.toMatch(/^sluice_refusals_total\{.*code="internal"/m);
});

it('a page begins after an id, also of what was deleted, and after nothing else', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 3; i += 1) ids.push((await upload(WHOLE)).json.id);
  const { json: page } = await rig.ask('/v1/files?limit=1');
  expect([page.data.length, page.has_more]).toEqual([1, true]);
  expect((await rig.ask(`/v1/files/${page.last_id}`, { method: 'DELETE' })).status).toBe(200);
  for (const order of ['asc', 'desc']) {
    const { status } = await rig.ask(`/v1/files?after=${page.last_id}&order=${order}`);
    expect(status).toBe(200);
  }
  const rest = (await rig.ask(`/v1/files?after=${page.last_id}`)).json;
  expect(rest.data.length).toBeGreaterThanOrEqual(2);
  const wrong = [
    'nope',
    ids[0]!.slice(0, -1),
    ids[0]!.replace('file-', 'batch_'),
    ids[0]!.replace('-0-', '-1-'),
  ];
  for (const after of wrong)
    for (const route of ['/v1/files', '/v1/batches'])
      expect(refusal(await rig.ask(`${route}?after=${after}`)), `${route} ${after}`).toEqual([
        ...[400, 'after'],
        expect.stringContaining('give the id of a'),
      ]);
});
