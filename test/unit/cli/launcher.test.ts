/** What starts the command: it keeps what Node compiled, and goes without where it cannot. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { eventually, PYTHON, ROOT, SluiceServer, temporaryDirectory } from '../../support/sluice-process.ts';

const launch = (home: string): string => {
  const { NODE_COMPILE_CACHE: _, ...env } = process.env;
  const launcher = path.join(ROOT, 'cli/bin/sluice.mjs');
  return execFileSync(process.execPath, [launcher, '--version'], {
    env: { ...env, HOME: home },
    encoding: 'utf8',
  });
};

it('keeps what Node compiled below the home directory', () => {
  const home = temporaryDirectory();
  try {
    expect(launch(home)).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(readdirSync(path.join(home, '.cache/sluice/compiled')).length).toBeGreaterThan(0);
  } finally {
    rmSync(home, { recursive: true });
  }
});

it('makes no home directory where there is none', () => {
  const home = path.join(temporaryDirectory(), 'gone');
  expect(launch(home)).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(existsSync(home)).toBe(false);
  rmSync(path.dirname(home), { recursive: true });
});

it('has what a server compiled kept while it runs: one that is killed keeps nothing more', async () => {
  const folder = temporaryDirectory();
  const server = await SluiceServer.start({ env: { NODE_COMPILE_CACHE: folder } });
  try {
    const kept = () => readdirSync(folder, { recursive: true }).length;
    // The main thread, that of the store, and one that listens: some hundred modules.
    await eventually('the modules are kept', async () => kept() > 300);
  } finally {
    await server.dispose();
    rmSync(folder, { recursive: true });
  }
});

it('goes on to its own end where nobody reads its standard error', async () => {
  const launcher = path.join(ROOT, 'cli/bin/sluice.mjs');
  const command = spawn(process.execPath, [launcher, 'run', '--function'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  command.stderr.destroy();
  // Wrong usage, not an exception that nobody caught.
  expect(await once(command, 'exit')).toEqual([2, null]);
});

/** Runs a command on a terminal of its own, but with piped input, and types Ctrl-C when its own input ends. */
const ON_TERMINAL = `
import fcntl, os, pty, subprocess, sys, termios
ours, theirs = pty.openpty()
def own():
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, preexec_fn=own)
os.close(theirs)
sys.stdin.read()
os.write(ours, b"\\x03")
try:
    while data := os.read(ours, 65536):
        os.write(1, data)
except OSError:
    pass
sys.exit(child.wait())
`;

/** As on a Node older than 24, where the launcher starts another one; it says what it passes on to that. */
const OLD = `data:text/javascript,
import { ChildProcess } from "node:child_process";
Object.defineProperty(process, "versions", { value: { node: "20.0.0" } });
ChildProcess.prototype.kill = (signal) => console.error("passed on", signal);
`;

it('does not pass Ctrl-C on where a terminal sends it to both processes', async () => {
  const server = createServer((request, response) => {
    const call = { call_id: 'c1', function: 'f', version: 'v' };
    // The call is accepted, and ends only when it is cancelled.
    if (request.method === 'POST') response.writeHead(202).end(JSON.stringify(call));
    else if (request.method === 'DELETE') response.end(JSON.stringify({ ...call, status: 'cancelled' }));
    else if (request.url === '/v1/functions/f')
      response.end(JSON.stringify({ name: 'f', version: 'v', spec: { inputs: null } }));
    else server.emit('waited for');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const launcher = [process.execPath, '--import', OLD, path.join(ROOT, 'cli/bin/sluice.mjs')];
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const directory = temporaryDirectory();
  const [input, output] = [path.join(directory, 'in.csv'), path.join(directory, 'out.arrow')];
  writeFileSync(input, 'text\na\n');
  const command = [...launcher, 'run', '--function', 'f', '--input', input, '--output', output, '--url', url];
  const waited = once(server, 'waited for');
  const child = spawn(PYTHON, ['-c', ON_TERMINAL, ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said, ended] = [text(child.stdout), once(child, 'close')];
  await waited;
  child.stdin.end();
  expect(await said).toContain('Interrupted before any row was finished.');
  expect(await said).not.toContain('passed on');
  expect(await ended).toEqual([130, null]);
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true });
});
