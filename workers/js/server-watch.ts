/**
 * A thread of a Node handler process: ends the process when the server is gone. The main thread sees that by its socket,
 * but not while a handler holds it in an endless loop.
 */
import { workerData } from 'node:worker_threads';

const LOOK_MS = 1000;

// An orphan has another parent. SIGKILL, since the main thread runs nothing else.
setInterval(() => {
  if (process.ppid !== workerData) process.kill(process.pid, 'SIGKILL');
}, LOOK_MS);
