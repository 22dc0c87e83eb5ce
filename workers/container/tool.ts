/** podman or docker as a program: found once, asked by its command line. */
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { OutputLines } from '../output-lines.ts';

const execute = promisify(execFile);

const KINDS = ['podman', 'docker'] as const;
/** An answer is a few lines of JSON; a list of containers at most some hundred. */
const ANSWER_BYTES_MAX = 2 ** 24;
/** Answers come at once; a machine that swaps, or a daemon that starts, takes some seconds. */
export const ANSWER_MS_MAX = 60_000;
/** Lines that an error quotes of what a build or a start printed last. */
export const TAIL_LINES = 20;

export type ToolKind = (typeof KINDS)[number];
export type ToolLimits = { readonly memory: boolean; readonly cpu: boolean };

/** What it printed, with its exit status; the message quotes the end of it. */
export class ToolError extends Error {}

type Failed = { readonly stderr?: string; readonly message: string };

const endOf = (text: string): string => text.trim().split('\n').slice(-TAIL_LINES).join('\n');

export class ContainerTool {
  readonly command: string;
  readonly kind: ToolKind;
  readonly env: NodeJS.ProcessEnv;

  constructor(command: string, kind: ToolKind, env: NodeJS.ProcessEnv) {
    this.command = command;
    this.kind = kind;
    this.env = env;
  }

  /** What a command prints, within `limitMs`: a tool that hangs (a lock, a daemon that is stuck) is ended. */
  async ask(args: readonly string[], signal?: AbortSignal, limitMs = ANSWER_MS_MAX): Promise<string> {
    const limit = AbortSignal.timeout(limitMs);
    const signals = signal === undefined ? [limit] : [limit, signal];
    const ending = { signal: AbortSignal.any(signals), killSignal: 'SIGKILL' } as const;
    try {
      const options = { env: this.env, maxBuffer: ANSWER_BYTES_MAX, ...ending };
      return (await execute(this.command, [...args], options)).stdout.trim();
    } catch (error) {
      const isLate = limit.aborted && signal?.aborted !== true;
      if (isLate) throw new ToolError(`${this.command} ${args[0]} did not answer within ${limitMs / 1000} s`);
      const { stderr, message } = error as Failed;
      throw new ToolError(endOf(stderr || message));
    }
  }

  /** Runs a command of minutes, line by line. */
  follow(args: readonly string[], onLine: (text: string) => void, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const tail: string[] = [];
    const keep = (text: string): void => {
      tail.push(text);
      if (tail.length > TAIL_LINES) tail.shift();
      onLine(text);
    };
    return new Promise((resolve, reject) => {
      const child = spawn(this.command, args, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'], signal });
      OutputLines.attach(child.stdout, keep);
      OutputLines.attach(child.stderr, keep);
      child.once('error', reject);
      child.once('close', (code) => {
        if (code === 0) resolve();
        else reject(new ToolError(tail.join('\n') || `${this.command} ${args[0]} left with code ${code}`));
      });
    });
  }

  /** Which limits the kernel can hold containers to here. */
  async limits(): Promise<ToolLimits> {
    const info = JSON.parse(
      await this.ask(['info', '--format', this.kind === 'podman' ? 'json' : '{{json .}}']),
    );
    if (this.kind === 'docker') return { memory: info.MemoryLimit === true, cpu: info.CPUCfsQuota === true };
    const controllers: readonly string[] = info.host?.cgroupControllers ?? [];
    return { memory: controllers.includes('memory'), cpu: controllers.includes('cpu') };
  }
}

const kindOf = (printed: string): ToolKind => (/podman/i.test(printed) ? 'podman' : 'docker');

/**
 * `wanted`, or what is here.
 * @throws Error with what is missing
 */
export const findTool = async (wanted: string, env: NodeJS.ProcessEnv): Promise<ContainerTool> => {
  for (const command of wanted === '' ? KINDS : [wanted]) {
    try {
      const { stdout } = await execute(command, ['--version'], { env, timeout: ANSWER_MS_MAX });
      return new ContainerTool(command, kindOf(stdout), env);
    } catch (error) {
      const { code } = error as { readonly code?: unknown };
      if (code !== 'ENOENT')
        throw new Error(`${command} --version failed: ${(error as Error).message.trim()}`);
    }
  }
  if (wanted !== '') throw new Error(`there is no ${wanted} on this machine (--container-tool)`);
  throw new Error(
    'neither podman nor docker is on this machine; install one, or name it with --container-tool',
  );
};
