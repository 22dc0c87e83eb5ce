/** Real `sluice` processes for end-to-end tests: the launcher that users run, on a free port and a data directory of its own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

export const ROOT = path.resolve(import.meta.dirname, '../..');
const LAUNCHER = path.join(ROOT, 'cli/bin/sluice.mjs');
export const PYTHON = path.join(ROOT, '.venv/bin/python');

/** Each thread costs a start most of a second of processor time; threads are tested where they are (test/unit/ingress), and in long runs. */
const SLUICE_INGRESS_THREADS = process.env.SLUICE_TEST_LONG === undefined ? '1' : '0';

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs one command to its end; never throws for its exit code. */
export const sluice = (args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> =>
  new Promise((resolve) => {
    const options = { cwd: ROOT, env: { ...process.env, SLUICE_PYTHON: PYTHON, ...env }, maxBuffer: 2 ** 28 };
    execFile(process.execPath, [LAUNCHER, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr });
    });
  });

export const temporaryDirectory = (): string => mkdtempSync(path.join(os.tmpdir(), 'sluice-e2e-'));

/** What servers come and go on: a data directory, or a prefix in a Redis. */
export type Home = {
  readonly command: 'dev' | 'serve';
  /** The flags that put a server on it. */
  readonly args: readonly string[];
  readonly remove: () => Promise<void>;
};

export const directoryHome = (data = temporaryDirectory()): Home => ({
  command: 'dev',
  args: ['--data', data],
  remove: async () => rmSync(data, { recursive: true, force: true }),
});

export type ServerOptions = {
  /** One that a test brings outlives the server. */
  readonly home?: Home;
  readonly command?: 'dev' | 'serve';
  readonly args?: readonly string[];
  readonly env?: Record<string, string>;
};

/** What tests need of a server, however many processes it is. */
export type Deployment = {
  readonly url: string;
  env(): Record<string, string>;
  run(args: readonly string[]): Promise<CommandResult>;
  deploy(file: string): Promise<void>;
  dispose(): Promise<void>;
};

/** Deploys a fixture and fails with its message when that does not work. */
export const deployTo = async (server: Pick<Deployment, 'run'>, file: string): Promise<void> => {
  const result = await server.run(['deploy', file]);
  if (result.code !== 0) throw new Error(`deploy ${file}: ${result.stdout}${result.stderr}`);
};

/** A server under test. `kill` is a SIGKILL of the whole server process; handlers notice the closed socket by themselves. */
export class SluiceServer implements Deployment {
  /** Of the API; '' where the process has no such role. */
  readonly url: string;
  /** Of the health port; '' where it has none. */
  readonly healthUrl: string;
  readonly home: Home;
  readonly #ownsHome: boolean;
  #child: ChildProcess;
  #exited: Promise<number | null>;
  #log: string[];

  private constructor(
    child: ChildProcess,
    greeting: string,
    home: Home,
    ownsHome: boolean,
    exited: Promise<number | null>,
    log: string[],
  ) {
    this.#child = child;
    this.url = /listens on (http:\/\/\S+:\d+)/.exec(greeting)?.[1] ?? '';
    this.healthUrl = /health on (http:\/\/\S+:\d+)/.exec(greeting)?.[1] ?? '';
    this.home = home;
    this.#ownsHome = ownsHome;
    this.#exited = exited;
    this.#log = log;
  }

  static async start(options: ServerOptions = {}): Promise<SluiceServer> {
    const home = options.home ?? directoryHome();
    const given = options.args ?? [];
    const role = given.includes('--role') ? given[given.indexOf('--role') + 1]! : 'all';
    const port = /all|ingress/.test(role) ? ['--port', '0'] : [];
    const args = [LAUNCHER, options.command ?? home.command, ...port, ...home.args, ...given];
    const env = { ...process.env, SLUICE_PYTHON: PYTHON, SLUICE_INGRESS_THREADS, ...options.env };
    const child = spawn(process.execPath, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const log: string[] = [];
    const keep = (line: string): void => {
      log.push(line);
      if (log.length > 500) log.shift();
    };
    createInterface({ input: child.stderr! }).on('line', keep);
    const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    const greeting = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        keep(line);
        if (/^Sluice (listens|runs)/.test(line)) resolve(line);
      });
      void exited.then((code) =>
        reject(new Error(`sluice left with ${code} before it listened:\n${log.join('\n')}`)),
      );
    });
    return new SluiceServer(child, greeting, home, options.home === undefined, exited, log);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get log(): string {
    return this.#log.join('\n');
  }

  env(): Record<string, string> {
    return { SLUICE_URL: this.url };
  }

  run(args: readonly string[]): Promise<CommandResult> {
    return sluice(args, this.env());
  }

  deploy(file: string): Promise<void> {
    return deployTo(this, file);
  }

  /** Process ids of the handler processes of this server. */
  handlers(): number[] {
    return descendants(this.pid).filter((pid) => /sluice\.worker|workers\/js/.test(commandOf(pid)));
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    this.#child.kill(signal);
    return this.#exited;
  }

  exited(): Promise<number | null> {
    return this.#exited;
  }

  /** Ends the server, and removes its data where they are its own. */
  async dispose(): Promise<void> {
    await this.kill('SIGKILL');
    if (this.#ownsHome) await this.home.remove();
  }
}

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
};

const parentOf = (pid: number): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
};

const descendants = (root: number): number[] => {
  if (!existsSync('/proc')) return [];
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc'))
    if (/^\d+$/.test(name)) parents.set(Number(name), parentOf(Number(name)));
  const isBelow = (pid: number): boolean => {
    for (let at = parents.get(pid); at; at = parents.get(at)) if (at === root) return true;
    return false;
  };
  return [...parents.keys()].filter(isBelow);
};

/** Between two questions of `eventually`, so that the asking does not take the processor from what is asked about. */
const POLL_MS = 5;

/** Asks until `check` gives something; the server's own long polls are the better choice where there is one. */
export const eventually = async <T>(
  what: string,
  check: () => Promise<T | undefined | false>,
  limitMs = 60_000,
): Promise<T> => {
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await check().catch(() => undefined);
    if (found) return found;
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(() => resolve(null), POLL_MS));
  }
};

/** Resolves when the process is gone, or a zombie that nobody has collected. */
export const untilDead = (pid: number): Promise<true> =>
  eventually(`process ${pid} is dead`, async () => {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    return stat === '' || /\) [ZX] /.test(stat);
  });
