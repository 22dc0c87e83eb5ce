/** A thread of its own that writes the output: the main one goes on reading and calling. Messages: a part's path, or null at the end. */
import { on } from 'node:events';
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { writeOutput } from './output-file.ts';

const port = parentPort!;

async function* parts(): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const [path] of on(port, 'message')) {
    if (path === null) return;
    yield await readFile(path as string);
  }
}

const { partial, output } = workerData as { partial: string; output: string };
await writeOutput(parts(), partial, output);
port.close();
