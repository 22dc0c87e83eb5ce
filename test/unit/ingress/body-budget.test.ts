import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rig, startRig } from './rig.ts';

let rig: Rig;
const BODY_BYTES_MAX = 2 * 2 ** 20;
beforeAll(async () => {
  rig = await startRig({ bodyBytesMax: String(BODY_BYTES_MAX), ingressThreads: '1' });
  await rig.deploy('len');
});
afterAll(() => rig.stop());

/** Announces a body and waits until the server says that it may come. */
const announced = (bytes: number): Promise<{ readonly socket: Socket; readonly answer: string }> =>
  new Promise((resolve, reject) => {
    const socket = connect(rig.port, '127.0.0.1');
    socket.once('error', reject);
    // The first bytes are the interim answer, or with it the refusal.
    socket.once('data', (chunk) => resolve({ socket, answer: String(chunk) }));
    const head = `content-type: application/json\r\ncontent-length: ${bytes}\r\nexpect: 100-continue\r\n`;
    socket.write(`POST /v1/functions/len/calls HTTP/1.1\r\nhost: localhost\r\n${head}\r\n`);
  });

describe('large bodies at once', () => {
  it('are refused above what a thread may hold, and taken when others are gone', async () => {
    const held: Socket[] = [];
    for (let i = 0; i < 4; i += 1) {
      const { socket, answer } = await announced(BODY_BYTES_MAX);
      expect(answer).toMatch(/^HTTP\/1\.1 100 /);
      held.push(socket);
    }
    const text = 'x'.repeat(BODY_BYTES_MAX - 1024);
    const send = () => rig.post('/v1/functions/len/calls', { columns: { text: [text] } });
    const refused = await send();
    expect([refused.status, refused.json.code, refused.headers.get('retry-after')]).toEqual([
      429,
      'queue_full',
      '1',
    ]);
    const small = await rig.post('/v1/functions/len/calls', { columns: { text: ['small'] } });
    expect(small.status).toBe(202);
    for (const socket of held) socket.destroy();
    let status = 0;
    while (status !== 202) {
      status = (await send()).status;
      expect([202, 429]).toContain(status);
    }
    const again = await Promise.all(Array.from({ length: 3 }, send));
    expect(again.map((answer) => answer.status)).toEqual([202, 202, 202]);
  });
});
