/** Clients that send or read slowly, and more of them than may be connected: they cost themselves time, and nobody else. */
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ARROW_STREAM } from '../../../shared/wire/api.ts';
import { type Rig, startRig, versionIdOf } from './rig.ts';

let rig: Rig;
const sockets: Socket[] = [];
const start = async (raw: Record<string, string> = {}): Promise<void> => {
  rig = await startRig({ ingressThreads: '1', ...raw });
};
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await rig.stop();
});

const opened = (): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(rig.port, '127.0.0.1', () => resolve(socket));
    sockets.push(socket);
    socket.once('error', reject);
  });

/** What comes next on the socket; '' when the server has closed it. */
const next = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    socket.once('data', (chunk) => resolve(String(chunk)));
    socket.once('close', () => resolve(''));
    socket.once('error', () => resolve(''));
  });

const served = async (): Promise<number> =>
  (await rig.post('/v1/functions/len/calls', { columns: { text: ['quick'] } })).status;

describe('bodies that dribble', () => {
  const BODY = JSON.stringify({ columns: { text: ['slow'] } });
  const HEAD = `POST /v1/functions/len/calls HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${BODY.length}\r\n\r\n`;

  it('hold up no other caller, and are taken when they are whole', async () => {
    await start();
    await rig.deploy('len');
    const slow = await Promise.all(Array.from({ length: 100 }, opened));
    for (const socket of slow) socket.write(HEAD);
    for (const byte of BODY) {
      for (const socket of slow) socket.write(byte);
      // Between two bytes of all of them a whole call goes through; before the last, none of them has been answered.
      expect(await served()).toBe(202);
    }
    for (const answer of await Promise.all(slow.map(next))) expect(answer).toMatch(/^HTTP\/1\.1 202 /);
    const [load] = await rig.store.registry.load();
    expect(load?.waitingRows).toBe(100 + BODY.length);
  });

  it('that end in the middle leave no call behind', async () => {
    await start();
    await rig.deploy('len');
    const slow = await Promise.all(Array.from({ length: 20 }, opened));
    for (const socket of slow) socket.write(HEAD + BODY.slice(0, -1));
    expect(await served()).toBe(202);
    for (const socket of slow) socket.destroy();
    expect(await served()).toBe(202);
    const [load] = await rig.store.registry.load();
    expect(load?.waitingRows).toBe(2);
  });
});

describe('more connections than the limit', () => {
  it('are closed at once, and taken when others have gone', async () => {
    await start({ connectionsMax: '3' });
    const ask = async (socket: Socket): Promise<string> => {
      socket.write('GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n');
      return next(socket);
    };
    const held = [await opened(), await opened(), await opened()];
    for (const socket of held) expect(await ask(socket)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await ask(await opened())).toBe('');
    // Those that are connected are served on.
    expect(await ask(held[1]!)).toMatch(/^HTTP\/1\.1 200 /);
    held[0]!.destroy();
    let answer = '';
    while (answer === '') answer = await ask(await opened());
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('a large result for readers that do not read', () => {
  const BATCHES = 32;
  const ROWS = 8;
  const VALUE_BYTES = 2 ** 20;
  const READERS = 8;

  /** A finished call whose result is 256 MiB. */
  const finished = async (): Promise<string> => {
    await rig.deploy('large', { output: { type: 'utf8', nullable: true } });
    const text = Array.from({ length: BATCHES * ROWS }, (_, row) => `${row}`);
    const id = (await rig.post('/v1/functions/large/calls', { columns: { text } })).json.call_id as string;
    const { queue } = rig.store;
    const versionId = await versionIdOf(rig.store, 'large');
    const value = 'x'.repeat(VALUE_BYTES);
    const output = rowsToStream({ result: Array<string>(ROWS).fill(value) }, [
      { name: 'result', type: 'utf8', nullable: true },
    ]);
    const [call] = (await queue.open({ versionId, after: 0, limit: 1 })).calls;
    for (let batch = 0; batch < BATCHES; batch += 1) {
      const now = Date.now();
      const slices = [{ callId: call!.callId, from: batch * ROWS, count: ROWS }];
      await queue.seal({ now, versionId, slices, reason: 'size', fence: '' });
      const [leased] = await queue.lease({ now, workerId: 'w', versionId, leaseMs: 60_000, max: 1 });
      await queue.settle({
        ...{ now, batchId: leased!.batchId, token: leased!.token, output, continuations: [] },
        outcomes: slices.map((slice) => ({ ...slice, state: 'ok', outputRow: 0 })),
        ...{ startedAt: now, handlerMs: 1 },
      });
    }
    return id;
  };

  /** Resolves when nobody reads pages from the store any more: all that it is asked is this count. */
  const readNoMore = async (): Promise<void> => {
    let verbs = 0;
    for (let quiet = 0; quiet < 500; ) {
      const { verbs: now = 0 } = await rig.store.counters();
      quiet = now === verbs + 1 ? quiet + 1 : 0;
      verbs = now;
    }
  };

  it('is held two pages at a time, and comes whole to the one that goes on', async () => {
    await start();
    const id = await finished();
    const head = `GET /v1/calls/${id}/result HTTP/1.1\r\nhost: localhost\r\naccept: ${ARROW_STREAM}\r\nconnection: close\r\n\r\n`;
    const before = process.memoryUsage.rss();
    const readers = await Promise.all(Array.from({ length: READERS }, opened));
    for (const socket of readers) {
      socket.write(head);
      expect(await next(socket)).toMatch(/^HTTP\/1\.1 200 /);
      socket.pause();
    }
    await readNoMore();
    // Were the pages read ahead, the readers would hold 2 GiB.
    expect(process.memoryUsage.rss() - before).toBeLessThan(400 * 2 ** 20);
    const [reader] = readers as [Socket, ...Socket[]];
    const bytes = await new Promise<number>((resolve, reject) => {
      let read = 0;
      reader.on('data', (chunk: Buffer) => {
        read += chunk.length;
      });
      reader.on('end', () => resolve(read));
      reader.on('error', reject);
      reader.resume();
    });
    expect(bytes).toBeGreaterThan(BATCHES * ROWS * VALUE_BYTES - 2 ** 20);
  });
});
