/** Containers by podman, which needs no daemon: as root, with runc, on the host's network. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { ROOT } from './sluice-process.ts';

const execute = promisify(execFile);

/** Machines without systemd keep cgroups to themselves, and their hard limits are lower than podman's defaults. */
const PODMAN = ['podman', '--runtime', 'runc', '--cgroup-manager', 'cgroupfs'];
const LIMITS = ['--network', 'host', '--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];

export const podman = async (...args: string[]): Promise<string> => {
  const [command, ...options] = PODMAN as [string, ...string[]];
  const { stdout } = await execute(command, [...options, ...args], { cwd: ROOT, maxBuffer: 2 ** 26 });
  return stdout.trim();
};

/** Why no image can be built here; null where it can. */
export const whyNoImages = async (): Promise<string | null> => {
  if (process.platform !== 'linux') return 'images of this machine are built on Linux only';
  if (process.getuid?.() !== 0) return 'podman without a daemon needs root here';
  for (const command of ['podman', 'runc']) {
    try {
      await execute(command, ['--version']);
    } catch {
      return `${command} is not installed (on Debian: apt-get install podman runc)`;
    }
  }
  try {
    await podman('info');
    return null;
  } catch (error) {
    return `podman does not work here: ${(error as Error).message.split('\n').at(-2)}`;
  }
};

export const buildImage = (image: string, file: string, base: string): Promise<string> =>
  // The format of Docker, which knows health checks.
  podman(
    'build',
    ...LIMITS,
    '--format',
    'docker',
    '--layers=false',
    '--file',
    file,
    '--build-arg',
    `BASE=${base}`,
    '--tag',
    image,
    '.',
  );

/** A container that runs in the foreground of a child process, so that its end is the child's. */
export class Container {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly #log: string[] = [];

  constructor(name: string, image: string, options: readonly string[], args: readonly string[] = []) {
    this.name = name;
    const [command, ...flags] = PODMAN as [string, ...string[]];
    const run = ['run', '--rm', '--name', name, '--cgroups=no-conmon', ...LIMITS, ...options, image, ...args];
    this.#child = spawn(command, [...flags, ...run], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#exited = new Promise((resolve) => this.#child.once('close', resolve));
    createInterface({ input: this.#child.stderr! }).on('line', (line) => this.#log.push(line));
  }

  /** The first match in what the container prints. */
  printed(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      createInterface({ input: this.#child.stdout! }).on('line', (line) => {
        this.#log.push(line);
        const match = pattern.exec(line);
        if (match) resolve(match[1] ?? match[0]);
      });
      void this.#exited.then((code) => reject(new Error(`${this.name} left with ${code}:\n${this.log}`)));
    });
  }

  get log(): string {
    return this.#log.join('\n');
  }

  exec(...command: string[]): Promise<string> {
    return podman('exec', this.name, ...command);
  }

  /** SIGTERM, and SIGKILL when the grace is over; answers the exit status. */
  async stop(graceSeconds: number): Promise<number | null> {
    await podman('stop', '--time', String(graceSeconds), this.name);
    return this.#exited;
  }

  async remove(): Promise<void> {
    await podman('rm', '--force', '--time', '0', '--ignore', this.name);
    await this.#exited;
  }
}
