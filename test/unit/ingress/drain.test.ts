import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { makeIngress } from '../../../services/ingress/pool.ts';
import { compileSettings } from '../../../shared/config/settings.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { openStore, startRig } from './rig.ts';

describe('a drain', () => {
  it('answers what waits with what is known, and ends connections that do nothing', async () => {
    const rig = await startRig({ grace: '30s' });
    await rig.deploy('f');
    const { json } = await rig.post('/v1/functions/f/calls', { columns: { text: ['a'] } });
    const idle = connect(rig.port, '127.0.0.1');
    const closed = new Promise((resolve) => idle.once('close', resolve));
    await new Promise((resolve) => idle.once('connect', resolve));
    const events = await fetch(`${rig.address}/v1/calls/${json.call_id}/events`);
    const begun = new Promise<void>((resolve) => {
      rig.store.queue.watch({ kind: 'waiting' }, () => resolve());
    });
    const waiting = rig.post('/v1/functions/f/calls', { columns: { text: ['b'] } }, { prefer: 'wait=600' });
    await begun;
    await rig.stopIngress();
    expect(await waiting).toMatchObject({ status: 202, json: { status: 'pending' } });
    expect(await events.text()).toMatch(/^event: progress\n/);
    await closed;
    await expect(fetch(`${rig.address}/livez`)).rejects.toThrow();
    await rig.stop();
  });

  it('waits for no body that has come in part, whether it is still wanted or not', async () => {
    const rig = await startRig({ grace: '10min' });
    await rig.deploy('f');
    const begun = async (line: string, more: string): Promise<{ answer: string; ended: Promise<string> }> => {
      const socket = connect(rig.port, '127.0.0.1');
      let rest = '';
      const ended = new Promise<string>((resolve) => socket.once('close', () => resolve(rest)));
      const head = `host: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n${more}\r\n{"col`;
      socket.write(`${line} HTTP/1.1\r\n${head}`);
      const [first] = await once(socket, 'data');
      socket.on('data', (chunk) => {
        rest += String(chunk);
      });
      return { answer: String(first), ended };
    };
    const unwanted = await begun('POST /nope', '');
    expect(unwanted.answer).toMatch(/^HTTP\/1\.1 404 /);
    const wanted = await begun('POST /v1/functions/f/calls', 'expect: 100-continue\r\n');
    expect(wanted.answer).toMatch(/^HTTP\/1\.1 100 /);
    await rig.stopIngress();
    expect(await unwanted.ended).toBe('');
    const answer = await wanted.ended;
    expect(answer).toMatch(/^HTTP\/1\.1 503 /);
    expect(answer).toContain('"code":"shutting_down"');
    await rig.stop();
  });

  it('tells of lost data whoever waits, where that is why the server leaves', async () => {
    const rig = await startRig({ grace: '30s' });
    await rig.deploy('f');
    const { json } = await rig.post('/v1/functions/f/calls', { columns: { text: ['a'] } });
    const events = await fetch(`${rig.address}/v1/calls/${json.call_id}/events`);
    const begun = new Promise<void>((resolve) => {
      rig.store.queue.watch({ kind: 'waiting' }, () => resolve());
    });
    const waiting = rig.post('/v1/functions/f/calls', { columns: { text: ['b'] } }, { prefer: 'wait=600' });
    await begun;
    rig.loseData('The disk went away.');
    await rig.stopIngress();
    expect(await waiting).toMatchObject({
      status: 500,
      json: { code: 'data_lost', detail: 'The disk went away.' },
    });
    expect(await events.text()).toContain('"code":"data_lost"');
    await rig.stop();
  });

  it('tells probes of lost data, where that is why the server leaves', async () => {
    const rig = await startRig({ grace: '30s' });
    await rig.deploy('f');
    const { json } = await rig.post('/v1/functions/f/calls', { columns: { text: ['a'] } });
    const events = await fetch(`${rig.address}/v1/calls/${json.call_id}/events`);
    rig.loseData('The disk went away.');
    expect(await events.text()).toContain('"code":"data_lost"');
    expect(await rig.ask('/readyz')).toMatchObject({
      status: 500,
      json: { code: 'data_lost', detail: 'The disk went away.' },
    });
    await rig.stop();
  });
});

describe('the ingress', () => {
  it('stops twice, stops before it started, and does not share a port with a stranger', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'sluice-ingress-'));
    const server = await openStore(directory);
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const make = (wanted: number) =>
      makeIngress({
        settings: compileSettings({
          port: String(wanted),
          ingressThreads: '1',
          grace: '5s',
          logLevel: 'silent',
        }),
        server,
        log: silentLog(),
      });
    const refused = make(port);
    await expect(refused.start()).rejects.toThrow(/another process listens/);
    await refused.stop();
    const never = make(0);
    await never.stop();
    const first = make(0);
    await first.start();
    await first.start();
    const second = make(Number(new URL(first.address()).port));
    await expect(second.start()).rejects.toThrow(/another process listens/);
    await second.stop();
    await Promise.all([first.stop(), first.stop()]);
    taken.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
});

describe('a thread that dies', () => {
  it('is started again on the same port, and loses no call', async () => {
    const threads: Worker[] = [];
    const onThread = (message: unknown): void => {
      threads.push((message as { worker: Worker }).worker);
    };
    subscribe('worker_threads', onThread);
    const rig = await startRig({ ingressThreads: '1' });
    await rig.deploy('f');
    const { json } = await rig.post('/v1/functions/f/calls', { columns: { text: ['a'] } });
    const before = threads.length;
    await threads.at(-1)!.terminate();
    let status = 0;
    while (status !== 200) {
      status = await rig.ask(`/v1/calls/${json.call_id}`).then(
        (answer) => answer.status,
        () => 0,
      );
    }
    expect(threads.length).toBe(before + 1);
    unsubscribe('worker_threads', onThread);
    await rig.stop();
  });
});
