import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { findTool } from '../../../../workers/container/tool.ts';
import { eventually } from '../../../support/sluice-process.ts';

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** A tool whose daemon is stuck; it notes its process. */
const stuckTool = async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sluice-tool-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const [program, note] = [path.join(directory, 'podman'), path.join(directory, 'pid')];
  const lines = ['#!/bin/sh', '[ "$1" = --version ] && exec echo podman version 4', `echo $$ > ${note}`];
  await writeFile(program, [...lines, 'exec tail -f /dev/null', ''].join('\n'), { mode: 0o755 });
  return { tool: await findTool(program, process.env), note };
};

it('a tool that does not answer is ended, and the answer says so', async () => {
  const { tool, note } = await stuckTool();
  await expect(tool.ask(['info'], undefined, 3000)).rejects.toThrow('podman info did not answer within 3 s');
  const pid = Number(await readFile(note, 'utf8'));
  await eventually('the tool has ended', async () => !isAlive(pid));
});

it('a question that nobody waits for any more ends for that reason', async () => {
  const { tool } = await stuckTool();
  const asking = new AbortController();
  const asked = tool.ask(['info'], asking.signal);
  asking.abort();
  await expect(asked).rejects.toThrow(/aborted/);
});
