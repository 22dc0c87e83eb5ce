/** What handlers print, on its way to the log and to the registry, which keeps the newest lines of each function. */
import type { Log } from '../shared/runtime/log.ts';
import type { LogLine, Registry } from '../shared/store/ports/registry.ts';

/** Soon enough for a person who watches; seldom enough to cost nothing. */
const FLUSH_MS = 200;
/** Above what the per-process line limits let through in one flush of many replicas. */
const LINES_MAX = 5000;

export class HandlerLog {
  readonly #registry: Registry;
  readonly #log: Log;
  #lines: LogLine[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(registry: Registry, log: Log) {
    this.#registry = registry;
    this.#log = log;
  }

  add(line: LogLine): void {
    const { functionName, replica, stream, text } = line;
    this.#log.info({ function: functionName, replica, stream }, text);
    if (this.#lines.length < LINES_MAX) this.#lines.push(line);
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS);
  }

  async flush(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const lines = this.#lines;
    this.#lines = [];
    if (lines.length === 0) return;
    await this.#registry
      .appendLogs(lines)
      .catch((error: unknown) => this.#log.warn({ err: error }, 'handler output was not kept'));
  }
}
