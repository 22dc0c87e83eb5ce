/** What `sluice dev` writes of what happens: for people on a terminal, as JSON for whatever else reads it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';

const NODE = path.resolve('node_modules/.bin/node');

/** Its first line about API keys, which there are none of. */
const firstLine = async (command: string, args: readonly string[]): Promise<string> => {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const closed = once(child, 'close');
  onTestFinished(async () => {
    process.kill(-child.pid!, 'SIGKILL');
    await closed;
  });
  let text = '';
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece: Buffer) => {
      text += stripVTControlCharacters(piece.toString());
      const found = /^.*API keys.*?\r?\n/m.exec(text)?.[0];
      if (found !== undefined) resolve(found.trim());
    });
  void closed.then(() => reject(new Error(`it ended with:\n${text}`)));
  return promise;
};

const devArgs = async (...more: readonly string[]): Promise<string[]> => {
  const data = await mkdtemp(path.join(tmpdir(), 'sluice-log-'));
  onTestFinished(() => rm(data, { recursive: true, force: true }));
  return ['cli/main.ts', 'dev', '--data', data, '--port', '0', ...more];
};

const READABLE = /^\[\d\d:\d\d:\d\d\.\d{3}\] WARN: there are no API keys/;

it('is JSON where it is piped', async () => {
  const line = await firstLine(NODE, await devArgs());
  expect(JSON.parse(line)).toMatchObject({ level: 40, msg: expect.stringContaining('no API keys') });
});

it('is readable where that is asked for', async () => {
  expect(await firstLine(NODE, await devArgs('--log-format', 'lines'))).toMatch(READABLE);
});

// `script` of Linux gives a program a terminal; other systems have one that takes other arguments.
it.runIf(process.platform === 'linux')('is readable on a terminal', async () => {
  const command = [NODE, ...(await devArgs())].join(' ');
  expect(await firstLine('script', ['-qec', command, '/dev/null'])).toMatch(READABLE);
});
