/** Runs a program and keeps what it says, up to a limit. */
import { spawn } from 'node:child_process';

export type ChildOutput = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** A file's specs with its sources are a few MiB; more than this is not a manifest. */
const OUTPUT_CHARACTERS_MAX = 256 * 1024 * 1024;
const ERROR_CHARACTERS_MAX = 64 * 1024;

export const childOutput = (command: string, parameters: readonly string[]): Promise<ChildOutput> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'] });
    const texts = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      texts.stdout += text;
      if (texts.stdout.length > OUTPUT_CHARACTERS_MAX) child.kill('SIGKILL');
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      texts.stderr = (texts.stderr + text).slice(-ERROR_CHARACTERS_MAX);
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...texts }));
  });
