/**
 * An engine as a child process: a process group of its own, a clean environment, its output read as lines.
 *
 *   running ──leave: SIGTERM, grace──► gone
 *      └──kill, or over its memory─────┘   (the whole group)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { Behind } from '../grpc/remote-replica.ts';
import { bytesText, watchMemory } from '../memory-watch.ts';
import { OutputLines } from '../output-lines.ts';
import type { ProcessCommand } from '../process.ts';
import { treeUsage } from '../process-tree.ts';

/**
 * An engine knows nothing of us, and would outlive a server that was killed: a keeper in its group reads a pipe that ends
 * with the server, and then ends the group. The engine itself takes the shell's place, so that its pid is the child's.
 * Only what the shell has built in: the engine's PATH may lead nowhere.
 */
const KEPT =
  '( trap "" TERM INT HUP; exec >/dev/null 2>&1; while read -r _ <&3; do :; done; kill -KILL 0 ) & exec "$@" 3<&-';
/** What a shell leaves with when there is no such program, or it may not be run. */
const UNSTARTED = new Set([126, 127]);
/** What the reason of a failed start quotes of its last output. */
const TAIL_LINES = 20;

export type EngineProcessOptions = {
  readonly command: ProcessCommand;
  readonly memoryBytesMax: number | null;
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void;
};

export class EngineProcess implements Behind {
  readonly gone: Promise<string>;
  readonly #child: ChildProcess;
  readonly #tail: string[] = [];
  #hasExited = false;
  #isGone = false;
  #cause: string | null = null;

  constructor({ command: { command, args, env, cwd }, memoryBytesMax, onLine }: EngineProcessOptions) {
    this.#child = spawn('/bin/sh', ['-c', KEPT, 'sh', command, ...args], {
      cwd,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    // It carries nothing; that it breaks when the engine goes is no error.
    this.#child.stdio?.[3]?.on('error', () => undefined);
    for (const name of ['stdout', 'stderr'] as const) {
      // Without a descriptor left, Node makes no pipes and tells the error in the next turn.
      const stream = this.#child[name] as Readable | null | undefined;
      if (!stream) continue;
      OutputLines.attach(stream, (text) => {
        this.#tail.push(text);
        if (this.#tail.length > TAIL_LINES) this.#tail.shift();
        onLine(name, text);
      });
    }
    this.gone = this.#ended(command, this.#watch(memoryBytesMax));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async usage(): Promise<{ readonly cpuMs: number; readonly memoryBytes: number } | null> {
    const { pid } = this.#child;
    return pid === undefined || this.#isGone ? null : treeUsage(pid);
  }

  kill(cause: string): void {
    this.#cause ??= cause;
    this.#signal('SIGKILL');
  }

  leave(graceMs: number): void {
    this.#cause ??= 'it was stopped';
    this.#signal('SIGTERM');
    const timer = setTimeout(() => this.#signal('SIGKILL'), graceMs);
    void this.gone.then(() => clearTimeout(timer));
  }

  tail(): readonly string[] {
    return this.#tail;
  }

  #watch(bytesMax: number | null): () => void {
    const { pid } = this.#child;
    if (bytesMax === null || pid === undefined) return () => undefined;
    return watchMemory(pid, bytesMax, (bytes) =>
      this.kill(`used ${bytesText(bytes)} of memory=${bytesText(bytesMax)}`),
    );
  }

  async #ended(command: string, unwatch: () => void): Promise<string> {
    const reason = await new Promise<string>((resolve) => {
      this.#child.once('error', (error) => resolve(`${command} could not be started (${error.message})`));
      this.#child.once('exit', (code, signal) => {
        // What it started and left behind holds its port and its memory.
        this.#signal('SIGKILL');
        this.#hasExited = true;
        if (signal === null && UNSTARTED.has(code ?? 0)) resolve(`${command} could not be started`);
        else resolve(signal === null ? `it left with code ${code}` : `it died of ${signal}`);
      });
    });
    unwatch();
    await this.#outputEnded();
    this.#isGone = true;
    return this.#cause ?? reason;
  }

  /** Its last lines say most; what was started outside of its group may hold the pipes, and is not waited for. */
  async #outputEnded(): Promise<void> {
    const { stdout, stderr } = this.#child;
    const streams = [stdout, stderr].filter((stream) => stream && !stream.closed);
    const linger = setTimeout(() => {
      for (const stream of streams) stream?.destroy();
    }, OUTPUT_LINGER_MS);
    await Promise.all(streams.map((stream) => new Promise((resolve) => stream?.once('close', resolve))));
    clearTimeout(linger);
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined || this.#hasExited) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // ESRCH: the group is empty, which is what was wanted.
    }
  }
}

const OUTPUT_LINGER_MS = 1000;
