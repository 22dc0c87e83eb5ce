import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { cpuSecondsOf, memoryOf, treeOf } from '../../../load-tests/machine/process-tree.ts';

/** A process that starts a child; the child works until it has used the given CPU time, and says so. */
const script = `
  const { spawn } = require('node:child_process');
  const work = 'while (process.cpuUsage().user < 300000); console.log("done " + process.pid); setInterval(() => {}, 1e6)';
  spawn(process.execPath, ['-e', work], { stdio: 'inherit' });
`;

test.runIf(process.platform === 'linux')("a grandchild's time and memory count with the root", async () => {
  const root = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(root.stdout, 'data')) as [Buffer];
  const child = Number(line.toString().split(' ')[1]);
  try {
    expect([...treeOf(root.pid!).keys()].sort()).toEqual([root.pid!, child].sort());
    expect(cpuSecondsOf(root.pid!)).toBeGreaterThan(0.25);
    expect(cpuSecondsOf(root.pid!)).toBeGreaterThanOrEqual(cpuSecondsOf(child));
    expect(memoryOf(root.pid!).server).toBeGreaterThan(memoryOf(child).server);
  } finally {
    process.kill(child, 'SIGKILL');
    root.kill('SIGKILL');
    await once(root, 'exit');
  }
});
