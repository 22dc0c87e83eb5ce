/**
 * One running container, followed by the tool's own process: its output is the container's, its end the container's end.
 *
 *   run ──► up ──leave: SIGTERM, grace──► ended ──► removed
 *            └──kill, or over its memory──┘
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import type { Readable } from 'node:stream';
import type { Behind } from '../grpc/remote-replica.ts';
import { bytesText, canWatchMemory, watchMemory } from '../memory-watch.ts';
import { OutputLines } from '../output-lines.ts';
import { treeUsage } from '../process-tree.ts';
import type { RunCommand } from './run-command.ts';
import { ANSWER_MS_MAX, type ContainerTool, TAIL_LINES } from './tool.ts';

/** The tools' own statuses: it could not be started, its command cannot be run, it is not there. */
const TOOL_FAILED = 125;
const NOT_RUNNABLE = 126;
const NOT_FOUND = 127;
const SIGKILLED = 137;

export type ContainerSettings = {
  readonly tool: ContainerTool;
  readonly name: string;
  readonly command: RunCommand;
  readonly memoryBytesMax: number | null;
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void;
};

export class Container implements Behind {
  readonly gone: Promise<string>;
  readonly #settings: ContainerSettings;
  readonly #child: ChildProcess;
  readonly #tail: string[] = [];
  readonly #pid: Promise<number | null>;
  #unwatch: () => void = () => undefined;
  #isGone = false;
  #cause: string | null = null;

  constructor(settings: ContainerSettings) {
    this.#settings = settings;
    const { tool, command } = settings;
    // A group of its own: a Ctrl+C in the server's terminal is the server's to handle. And conmon leaves notes where it begins.
    const options = { cwd: tmpdir(), env: { ...tool.env, ...command.env }, detached: true };
    this.#child = spawn(tool.command, command.args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const name of ['stdout', 'stderr'] as const)
      OutputLines.attach(this.#child[name] as Readable, (text) => this.#line(name, text));
    this.gone = this.#ended();
    this.#pid = this.#watched();
  }

  async usage(): Promise<{ readonly cpuMs: number; readonly memoryBytes: number } | null> {
    const pid = await this.#pid;
    return pid === null || this.#isGone ? null : treeUsage(pid);
  }

  kill(cause: string): void {
    this.#cause ??= cause;
    void this.#remove();
  }

  leave(graceMs: number): void {
    this.#cause ??= 'it was stopped';
    const { tool, name } = this.#settings;
    // What does not hear is killed by the tool when the grace is over.
    const seconds = Math.ceil(graceMs / 1000);
    tool
      .ask(['stop', '--time', String(seconds), name], undefined, seconds * 1000 + ANSWER_MS_MAX)
      .catch(() => this.#remove());
  }

  tail(): readonly string[] {
    return this.#tail;
  }

  #line(stream: 'stdout' | 'stderr', text: string): void {
    this.#tail.push(text);
    if (this.#tail.length > TAIL_LINES) this.#tail.shift();
    this.#settings.onLine(stream, text);
  }

  /** Removes it with all that runs in it; also what the tool had only begun to make. */
  async #remove(): Promise<void> {
    const { tool, name } = this.#settings;
    const now = tool.kind === 'podman' ? ['--time', '0'] : [];
    await tool.ask(['rm', '--force', '--volumes', ...now, name]).catch(() => undefined);
    if (!this.#isGone) this.#child.kill('SIGTERM');
  }

  async #ended(): Promise<string> {
    const reason = await new Promise<string>((resolve) => {
      this.#child.once('error', (error) => resolve(`it could not be started (${error.message})`));
      this.#child.once('close', (code, signal) => resolve(this.#reasonOf(code, signal)));
    });
    this.#isGone = true;
    this.#unwatch();
    await this.#remove();
    return this.#cause ?? reason;
  }

  #reasonOf(code: number | null, signal: NodeJS.Signals | null): string {
    const { tool, memoryBytesMax } = this.#settings;
    if (code === null) return `${tool.kind} died of ${signal}`;
    if (code === TOOL_FAILED) return `${tool.kind} could not start it`;
    if (code === NOT_RUNNABLE || code === NOT_FOUND)
      return `it left with code ${code}: its command is not in the image, or cannot be run there`;
    if (code !== SIGKILLED) return `it left with code ${code}`;
    return memoryBytesMax === null
      ? 'it was killed (SIGKILL)'
      : `it was killed, as happens to what uses more than memory=${bytesText(memoryBytesMax)}`;
  }

  /** Its first process as this machine counts them, watched for the memory that it and its children use. */
  async #watched(): Promise<number | null> {
    const { tool, name, memoryBytesMax } = this.#settings;
    if (!canWatchMemory) return null;
    const pid = await this.#pidOf(tool, name);
    if (pid === null || this.#isGone || memoryBytesMax === null) return pid;
    this.#unwatch = watchMemory(pid, memoryBytesMax, (bytes) =>
      this.kill(`used ${bytesText(bytes)} of memory=${bytesText(memoryBytesMax)}`),
    );
    return pid;
  }

  async #pidOf(tool: ContainerTool, name: string): Promise<number | null> {
    while (!this.#isGone) {
      const found = await tool.ask(['inspect', '--format', '{{.State.Pid}}', name]).catch(() => '0');
      if (Number(found) > 0) return Number(found);
      await new Promise((resolve) => setTimeout(resolve, PID_AGAIN_MS).unref());
    }
    return null;
  }
}

/** Between two looks whether the container has come up. */
const PID_AGAIN_MS = 200;
