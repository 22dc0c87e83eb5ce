#!/usr/bin/env node
// Plain JavaScript that any Node can read: Sluice itself needs Node 24, which the `node` package brings along.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module, { createRequire } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const FLOOR = 24;
const main = fileURLToPath(new URL('../main.ts', import.meta.url));

/**
 * Node keeps what it has compiled, so that a start costs half. The variable reaches threads, and the Node that is started below; a
 * folder that cannot be written is not used.
 */
const keepCompiled = () => {
  const home = homedir();
  if (process.env.NODE_COMPILE_CACHE === undefined && existsSync(home))
    process.env.NODE_COMPILE_CACHE = path.join(home, '.cache', 'sluice', 'compiled');
  if (process.env.NODE_COMPILE_CACHE !== undefined)
    module.enableCompileCache?.(process.env.NODE_COMPILE_CACHE);
};

const bundledNode = () => {
  try {
    const folder = path.dirname(createRequire(import.meta.url).resolve('node/package.json'));
    const binary = path.join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    return existsSync(binary) ? binary : null;
  } catch {
    return null;
  }
};

const runWith = (node) => {
  // The channel closes when this process dies in whatever way, and the command goes with it (main.ts).
  const stdio = ['inherit', 'inherit', 'inherit', 'ipc'];
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio });
  const pass = (signal) => process.on(signal, () => child.kill(signal));
  pass('SIGTERM');
  pass('SIGHUP');
  // A terminal sends Ctrl-C to the whole process group; a second copy would read as "stop at once". Input may be piped there.
  if (process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY) process.on('SIGINT', () => {});
  else pass('SIGINT');
  child.on('error', (error) => {
    console.error(`sluice: ${node} could not be started: ${error.message}. Run \`npm install\` again.`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
};

keepCompiled();
if (Number(process.versions.node.split('.')[0]) >= FLOOR) {
  await import('../main.ts');
} else {
  const node = bundledNode();
  if (node === null) {
    console.error(
      `sluice: this is Node ${process.versions.node}; Sluice needs Node ${FLOOR} or newer. ` +
        'Install it, or run `npm install` in the project so that its own copy is there.',
    );
    process.exitCode = 1;
  } else {
    runWith(node);
  }
}
