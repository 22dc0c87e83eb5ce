/** The load of the single-row scenarios: one JSON row a request, against each of the servers. */

import { freePort } from '../../test/support/free-port.ts';
import type { Run, Subject } from '../comparison.ts';
import { generate, type LoadPlan } from '../generator/load.ts';
import { type Peer, PYTHON, SCRATCH, startPeer } from '../peers/peer.ts';
import type { SluicePeer } from '../peers/sluice.ts';

/** Texts of 40 to 60 characters; the handler answers their length. All the same length, so that every answer is known. */
const TEXTS = Array.from(
  { length: 64 },
  (_, i) => `text ${String(i).padStart(2, '0')} of the rows that a caller sends, one at a time`,
);
const LENGTH = TEXTS[0]!.length;

/** A generator above this share of one core may be what is measured; the table says so. */
const GENERATOR_CORES_MAX = 0.9;

export type Endpoint = Pick<LoadPlan, 'path' | 'headers' | 'bodies' | 'expect'>;

const json = { 'content-type': 'application/json' };
const columnBodies = TEXTS.map((text) => JSON.stringify({ columns: { text: [text] } }));

export const echoEndpoint: Endpoint = {
  path: '/echo',
  headers: json,
  bodies: TEXTS.map((text) => JSON.stringify({ text })),
  expect: { status: 200, text: '"text":"text ' },
};

export const floorEndpoint: Endpoint = {
  path: '/rows',
  headers: json,
  bodies: columnBodies,
  expect: { status: 200, text: `"result":[${LENGTH}]` },
};

export const mosecEndpoint: Endpoint = {
  path: '/inference',
  headers: json,
  bodies: echoEndpoint.bodies,
  expect: { status: 200, text: `"result": ${LENGTH}` },
};

/** `wait`: seconds that the server may hold the request; 0: it answers 202 as soon as the row is accepted. */
export const sluiceEndpoint = (name: string, wait: number): Endpoint => ({
  path: `/v1/functions/${name}/calls`,
  headers: wait > 0 ? { ...json, prefer: `wait=${wait}` } : json,
  bodies: columnBodies,
  expect: wait > 0 ? { status: 200, text: `"result":[${LENGTH}]` } : { status: 202, text: '"call_id"' },
});

/** A server that is one script of peers/, given its port and a folder to write in. */
const startScript = async (name: 'echo' | 'floor'): Promise<Peer> => {
  const port = await freePort();
  const script = new URL(`../peers/${name}.ts`, import.meta.url).pathname;
  return startPeer(name, [process.execPath, script, String(port), SCRATCH], { port, readyPath: '/' });
};

export const startEcho = (): Promise<Peer> => startScript('echo');

export const startFloor = (): Promise<Peer> => startScript('floor');

export const startMosec = async (script: string, env: Record<string, string>): Promise<Peer> => {
  const port = await freePort();
  const file = new URL(`../peers/${script}`, import.meta.url).pathname;
  const command = [PYTHON, file, '--address', '127.0.0.1', '--port', String(port)];
  // mosec refuses beyond its capacity, and by default gives a request 3 s.
  return startPeer('mosec', [...command, '--timeout', '60000', '--capacity', '4096'], {
    port,
    readyPath: '/',
    env,
  });
};

export const rowsSubject = (
  name: string,
  peer: Peer | SluicePeer,
  endpoint: Endpoint,
  connections: number,
  seconds: number,
): Subject => ({
  name,
  run: async (): Promise<Run> => {
    const plan: LoadPlan = {
      ...endpoint,
      host: '127.0.0.1',
      port: peer.port,
      connections,
      warmupSeconds: Math.min(2, seconds / 4),
      seconds,
      requests: null,
      markEvery: null,
    };
    const result = await generate(plan, peer.pid);
    const remarks = result.failures.map(({ why, count }) => `${count} × ${why}`);
    if (result.unexpected > 0) remarks.push(`${result.unexpected} unexpected answers`);
    if (result.generatorCores > GENERATOR_CORES_MAX)
      remarks.push(`the load generator used ${result.generatorCores.toFixed(2)} cores and may be the limit`);
    return {
      rows: result.requests,
      seconds: result.seconds,
      cpuSeconds: result.cpuSeconds,
      latencies: result.latencies,
      failures: result.unexpected + result.failures.reduce((sum, { count }) => sum + count, 0),
      remarks,
    };
  },
});
