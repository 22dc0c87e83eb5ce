/** The server under test, started and used as its users do: the `sluice` command and HTTP. */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../../test/support/free-port.ts';
import { type Peer, PYTHON, ROOT, SCRATCH, startPeer } from './peer.ts';

const run = promisify(execFile);
/** What `npx sluice` starts, in the Node that runs this. */
export const LAUNCHER = path.join(ROOT, 'cli/bin/sluice.mjs');
const FUNCTIONS = path.join(ROOT, 'load-tests/peers/functions.py');
const REPLICA_READY_MS = 60_000;

export type SluicePeer = Peer & { readonly url: string; readonly directory: string };
/** Where the API is, whatever process is behind it. */
export type Api = { readonly url: string };

const serve = async (directory: string): Promise<SluicePeer> => {
  const port = await freePort();
  const peer = await startPeer(
    'sluice',
    [process.execPath, LAUNCHER, 'dev', '--host', '127.0.0.1', '--port', String(port), '--data', directory],
    { port, readyPath: '/readyz', env: { SLUICE_LOG_LEVEL: 'warn' } },
  );
  return { ...peer, url: `http://127.0.0.1:${port}`, directory };
};

/** Asks the server and throws with its own words when it refuses. */
export const ask = async (peer: Api, method: string, at: string, body?: unknown): Promise<unknown> => {
  const answer = await fetch(peer.url + at, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${at}: ${answer.status} ${text.slice(0, 500)}`);
  return text === '' ? null : JSON.parse(text);
};

/** The arguments of a `sluice` command line; answers its standard output. */
export const sluice = async (peer: Api, ...args: string[]): Promise<string> => {
  const { stdout } = await run(process.execPath, [LAUNCHER, ...args], {
    cwd: ROOT,
    env: { ...process.env, SLUICE_URL: peer.url, SLUICE_PYTHON: PYTHON },
    maxBuffer: 64 * 2 ** 20,
  });
  return stdout;
};

type Shown = { replicas: { ready: number; reason: string | null }[] };

const untilReady = async (peer: Api, name: string, replicas: number): Promise<void> => {
  const until = performance.now() + REPLICA_READY_MS;
  let shown: Shown = { replicas: [] };
  while (performance.now() < until) {
    shown = (await ask(peer, 'GET', `/v1/functions/${name}`)) as Shown;
    if (shown.replicas.reduce((sum, one) => sum + one.ready, 0) >= replicas) return;
    await wait(50);
  }
  throw new Error(`${name} has not ${replicas} replicas: ${JSON.stringify(shown.replicas)}`);
};

/** Deploys the load tests' functions, and waits until each of `wanted` has so many replicas. */
export const deployFunctions = async (
  peer: Api,
  wanted: readonly string[],
  replicas: number,
): Promise<void> => {
  await sluice(peer, 'deploy', FUNCTIONS);
  for (const name of wanted) await untilReady(peer, name, replicas);
};

/** A server on an empty data directory with the load tests' functions deployed, and `wanted` of them with a replica. */
export const startSluice = async (wanted: readonly string[]): Promise<SluicePeer> => {
  mkdirSync(SCRATCH, { recursive: true });
  const peer = await serve(path.join(SCRATCH, `data-${process.pid}-${Date.now()}`));
  try {
    await deployFunctions(peer, wanted, 1);
    return peer;
  } catch (error) {
    await discard(peer);
    throw error;
  }
};

/** On the same data, as after a crash. */
export const restartSluice = (peer: SluicePeer): Promise<SluicePeer> => serve(peer.directory);

export const discard = async (peer: SluicePeer): Promise<void> => {
  await peer.stop();
  rmSync(peer.directory, { recursive: true, force: true });
};
