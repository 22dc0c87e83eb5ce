import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ARROW_STREAM } from '../../../shared/wire/api.ts';
import { type Rig, settleAll, startRig, versionIdOf } from './rig.ts';

const MiB = 2 ** 20;
const CALLS = '/v1/functions/len/calls';
const GZIP = { 'content-encoding': 'gzip' };

let rig: Rig;
beforeAll(async () => {
  // A thread holds four bodies of the largest size: 8 MiB.
  rig = await startRig({ bodyBytesMax: '2MiB', jsonBytesMax: '1.75MiB' });
  await rig.deploy('len');
});
afterAll(() => rig.stop());

const held: Socket[] = [];
afterEach(() => {
  for (const socket of held.splice(0)) socket.destroy();
});

/** A request whose body does not come whole. */
const begun = (line: string, headers: string, body: string): Socket => {
  const socket = connect(rig.port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write(
    `${line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${headers}\r\n${body}`,
  );
  held.push(socket);
  return socket;
};

const firstOf = async (socket: Socket): Promise<string> => String((await once(socket, 'data'))[0]);
const textOf = (bytes: number): { columns: { text: string[] } } => ({
  columns: { text: ['x'.repeat(bytes)] },
});
const zipped = (value: unknown): Buffer => gzipSync(JSON.stringify(value));

describe('a body for nothing that is there', () => {
  it.each([
    ['POST /nowhere', 404],
    ['PUT /v1/functions', 405],
  ])('is not waited for: %s', async (line, status) => {
    for (const length of ['content-length: 1000000\r\n', 'transfer-encoding: chunked\r\n'])
      expect(await firstOf(begun(line, length, ''))).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  it('counts for nothing, whoever sends it', async () => {
    for (let i = 0; i < 24; i += 1)
      await firstOf(begun('POST /nowhere', 'transfer-encoding: chunked\r\n', '1\r\n{\r\n'));
    expect((await rig.post(CALLS, textOf(1.5 * MiB))).status).toBe(202);
    expect((await rig.post(CALLS, zipped(textOf(10)), GZIP)).status).toBe(202);
  });
});

describe('bodies at once', () => {
  it('count what has come of them: what is announced alone holds nothing', async () => {
    const expecting = `content-length: ${2 * MiB}\r\nexpect: 100-continue\r\n`;
    for (let i = 0; i < 8; i += 1)
      expect(await firstOf(begun(`POST ${CALLS}`, expecting, ''))).toMatch(/^HTTP\/1\.1 100 /);
    expect((await rig.post(CALLS, textOf(1.5 * MiB))).status).toBe(202);
  });

  it('are refused above what a thread may hold, and taken when others are gone', async () => {
    const part = 'x'.repeat(1.5 * MiB);
    // Many of the size below which a body used not to count.
    for (let i = 0; i < 8; i += 1) begun(`POST ${CALLS}`, 'content-length: 150000\r\n', 'x'.repeat(149_000));
    const large = () => rig.post(CALLS, textOf(1.5 * MiB));
    let refused = await large();
    while (refused.status === 202) {
      begun(`POST ${CALLS}`, 'content-length: 1600000\r\n', part);
      refused = await large();
    }
    expect([refused.status, refused.json.code, refused.headers.get('retry-after')]).toEqual([
      429,
      'queue_full',
      '1',
    ]);
    expect((await rig.post(CALLS, textOf(1000))).status).toBe(202);
    for (const socket of held) socket.destroy();
    let status = 0;
    while (status !== 202) {
      status = (await large()).status;
      expect([202, 429]).toContain(status);
    }
    const again = await Promise.all(Array.from({ length: 3 }, large));
    expect(again.map((answer) => answer.status)).toEqual([202, 202, 202]);
  });

  it('that are compressed count decoded', async () => {
    const body = zipped(textOf(1.6 * MiB));
    const answers = await Promise.all(Array.from({ length: 4 }, () => rig.post(CALLS, body, GZIP)));
    expect(answers.map((answer) => answer.status)).toEqual([202, 202, 202, 202]);
  });

  it('hold nothing while their calls are waited for', async () => {
    await rig.deploy('waited');
    const versionId = await versionIdOf(rig.store, 'waited');
    const admitted = async (calls: number): Promise<void> => {
      for (let found = 0; found < calls; )
        found = (await rig.store.queue.open({ versionId, after: 0, limit: 100 })).calls.length;
    };
    const prefer = { prefer: 'wait=60' };
    const waiting = [];
    for (let i = 0; i < 8; i += 1) {
      waiting.push(rig.post('/v1/functions/waited/calls', textOf(1.5 * MiB), prefer));
      await admitted(i + 1);
    }
    const small = zipped(textOf(1));
    for (let i = 0; i < 40; i += 1)
      waiting.push(rig.post('/v1/functions/waited/calls', small, { ...GZIP, ...prefer }));
    await admitted(48);
    await settleAll(rig.store, versionId, () => ({ value: 1n }));
    await settleAll(rig.store, versionId, () => ({ value: 1n }));
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(200);
  });
});

describe('a JSON body', () => {
  it('has a lower limit than an Arrow stream, and the refusal names it', async () => {
    const { columns } = textOf(1.9 * MiB);
    for (const [body, headers] of [
      [JSON.stringify({ columns }), {}],
      [zipped({ columns }), GZIP],
    ] as const) {
      const { status, json } = await rig.post(CALLS, body, headers);
      expect([status, json.code]).toEqual([413, 'payload_too_large']);
      expect(json.detail).toContain(`${1.75 * MiB} bytes`);
      expect(json.detail).toContain('--json-bytes-max');
    }
    const stream = rowsToStream({ text: columns.text }, [{ name: 'text', type: 'utf8', nullable: false }]);
    expect((await rig.post(CALLS, stream, { 'content-type': ARROW_STREAM })).status).toBe(202);
    const { json } = await rig.post(CALLS, gzipSync(Buffer.alloc(3 * MiB)), {
      ...{ 'content-type': ARROW_STREAM },
      ...GZIP,
    });
    expect(json.detail).toContain('--body-bytes-max');
  });
});
