/** How to start a Node function: our own runtime in a process of the same Node. */
import { fileURLToPath } from 'node:url';
import type { ProcessCommand } from '../process.ts';

// The runtime lies beside this file, as TypeScript in a checkout and as JavaScript in a build.
const RUNTIME = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './child.ts' : './child.js', import.meta.url),
);

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
