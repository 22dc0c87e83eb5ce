/** The containers of one pod as processes of this machine run, with the paths of a directory in the place of volumes. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { V1Container, V1EnvVar } from '@kubernetes/client-node';
import { PYTHON, ROOT, temporaryDirectory } from '../support/sluice-process.ts';

const run = promisify(execFile);

export class PodContainers {
  readonly #volumes = temporaryDirectory();
  readonly #children: ChildProcess[] = [];

  #here(text: string): string {
    return text
      .replaceAll('/opt/sluice', path.join(this.#volumes, 'home'))
      .replaceAll('/app/artifacts', path.join(this.#volumes, 'artifacts'))
      .replaceAll('/mnt/models', path.join(this.#volumes, 'models'))
      .replaceAll('/app/workers', path.join(ROOT, 'workers'))
      .replaceAll('exec python3', `exec ${PYTHON}`);
  }

  #environment(variables: readonly V1EnvVar[]): Record<string, string> {
    return Object.fromEntries(variables.map(({ name, value }) => [name, this.#here(value ?? '')]));
  }

  /** What it said. `address` is where Sluice is, whatever the pod was told. */
  async init({ command, args }: V1Container, address: { told: string; really: string }): Promise<string> {
    const [, ...words] = [...command!, ...args!].map((word) =>
      this.#here(word).replace(address.told, address.really),
    );
    const from = ['--entrypoint-from', path.join(ROOT, 'python/src/sluice')];
    return (await run(process.execPath, [...words, ...from])).stdout;
  }

  /** Resolves when it has printed a line with `sign`. */
  async start({ command, args, env }: V1Container, sign: string): Promise<void> {
    const [program, ...words] = [...command!, ...(args ?? [])].map((word) => this.#here(word));
    const child = spawn(program!, words, {
      // Nothing of this checkout but what the init container brought.
      cwd: this.#volumes,
      env: {
        PATH: process.env.PATH,
        ...this.#environment(env!),
        SLUICE_ARTIFACTS: this.#here('/app/artifacts'),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    const ended = once(child, 'exit').then(() => Promise.reject(new Error(`it ended before "${sign}"`)));
    const signed = new Promise<void>((resolve) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (line.includes(sign)) resolve();
      });
    });
    await Promise.race([signed, ended]);
    ended.catch(() => undefined);
  }

  async stop(): Promise<void> {
    for (const child of this.#children.splice(0)) {
      if (child.exitCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
}
