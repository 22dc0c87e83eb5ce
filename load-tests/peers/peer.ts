/** A server process beside the load: started, waited for until it answers, stopped with all that it started. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { treeOf } from '../machine/process-tree.ts';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const PYTHON = path.join(ROOT, '.venv/bin/python');
/**
 * Scratch on the same file system as the project, so that fsync costs what it costs there; ignored by git. One folder a run, so
 * that two runs do not meet; servers' logs stay in it, all else goes.
 */
export const SCRATCH = path.join(ROOT, '.sluice/load-tests', String(process.pid));

const READY_MS = 60_000;
const STOP_MS = 40_000;

export type Peer = {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  /** SIGTERM, then SIGKILL when it does not end in time. */
  readonly stop: () => Promise<void>;
  /** SIGKILL for it and all that it started. */
  readonly kill: () => Promise<void>;
};

/** Rejects, or answers false, until the server is there. */
type Reach = () => Promise<boolean>;

const untilReached = async (child: ChildProcess, reach: Reach, name: string): Promise<void> => {
  const until = performance.now() + READY_MS;
  while (performance.now() < until) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode} before it was ready.`);
    if (await reach().catch(() => false)) return;
    await wait(10);
  }
  throw new Error(`${name} was not ready within ${READY_MS / 1000} s; its log is in ${SCRATCH}.`);
};

const killIfThere = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended between the look and the signal.
  }
};

type PeerOptions = { readonly port: number; readonly env?: Record<string, string> };

/** Its standard output and error go to a file in SCRATCH. */
export const launchPeer = async (
  name: string,
  command: readonly string[],
  options: PeerOptions & { readonly reach: Reach },
): Promise<Peer> => {
  mkdirSync(SCRATCH, { recursive: true });
  const log = createWriteStream(path.join(SCRATCH, `${name}.log`), { flags: 'a' });
  await once(log, 'open');
  const child = spawn(command[0]!, command.slice(1), {
    cwd: ROOT,
    stdio: ['ignore', log, log],
    env: { ...process.env, ...options.env },
  });
  await once(child, 'spawn');
  const ended = once(child, 'exit');
  const kill = async (): Promise<void> => {
    for (const pid of treeOf(child.pid!).keys()) killIfThere(pid);
    await ended;
    log.end();
  };
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const timer = setTimeout(() => void kill(), STOP_MS);
    await ended;
    clearTimeout(timer);
    log.end();
  };
  try {
    await untilReached(child, options.reach, name);
  } catch (error) {
    if (child.exitCode === null) await kill();
    throw error;
  }
  return { name, pid: child.pid!, port: options.port, stop, kill };
};

/** A server that is ready when it answers a GET of `readyPath` with 200. */
export const startPeer = (
  name: string,
  command: readonly string[],
  options: PeerOptions & { readonly readyPath: string },
): Promise<Peer> => {
  const url = `http://127.0.0.1:${options.port}${options.readyPath}`;
  return launchPeer(name, command, { ...options, reach: async () => (await fetch(url)).ok });
};
