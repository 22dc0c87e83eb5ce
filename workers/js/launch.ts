/** How to start a Node function: our own runtime in a process of the same Node. */
import { fileURLToPath } from 'node:url';
import type { ProcessCommand } from '../process.ts';

const RUNTIME = fileURLToPath(new URL('./child.ts', import.meta.url));

/** `modules`: where packages are looked up that the function's own folder does not have. */
export const nodeCommand = (
  directory: string,
  env: Readonly<Record<string, string>>,
  modules: string,
): ProcessCommand => ({
  command: process.execPath,
  args: ['--disable-warning=ExperimentalWarning', RUNTIME, modules],
  env,
  cwd: directory,
});
