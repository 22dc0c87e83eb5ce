/** What a pod's handler prints, followed line by line until the pod is left. */
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { OutputLines } from '../output-lines.ts';
import { HANDLER } from './pod-spec.ts';

/** A container that has not started has no log yet; one whose log was cut goes on. */
const FIRST_PAUSE_MS = 1000;
const PAUSE_MS_MAX = 15_000;
/** Of what was printed before anybody listened. */
const TAIL_LINES = 200;

/** `2026-11-21T15:00:00.123456789Z text`: times of one width, so that they compare as texts. */
const STAMPED = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) ?(.*)$/s;

export type PodLogOptions = {
  readonly config: KubeConfig;
  readonly namespace: string;
  readonly pod: string;
  /** Lines before it are another worker's; null: all that is there. */
  readonly since: Date | null;
  readonly onLine: (text: string) => void;
};

export class PodLog {
  readonly #options: PodLogOptions;
  readonly #stopped = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #since: string | null;
  #last = '';
  #pauseMs = FIRST_PAUSE_MS;

  constructor(options: PodLogOptions) {
    this.#options = options;
    this.#since = options.since?.toISOString() ?? null;
    void this.#follow();
  }

  stop(): void {
    this.#stopped.abort();
    clearTimeout(this.#timer);
  }

  async #follow(): Promise<void> {
    await this.#read().catch(() => undefined);
    if (this.#stopped.signal.aborted) return;
    this.#timer = setTimeout(() => void this.#follow(), this.#pauseMs).unref();
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MS_MAX);
  }

  /** Resolves when the log ends, or there is none. */
  async #read(): Promise<void> {
    const { config, namespace, pod } = this.#options;
    const url = new URL(
      `${config.getCurrentCluster()!.server}/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/log`,
    );
    url.search = String(
      new URLSearchParams({
        container: HANDLER,
        follow: 'true',
        timestamps: 'true',
        ...(this.#since === null ? { tailLines: String(TAIL_LINES) } : { sinceTime: this.#since }),
      }),
    );
    const options: https.RequestOptions = { signal: this.#stopped.signal };
    await config.applyToHTTPSOptions(options);
    const client = url.protocol === 'http:' ? http : https;
    await new Promise<void>((resolve) => {
      const request = client.get(url, options, (response) => {
        response.once('close', resolve);
        response.on('error', () => resolve());
        if (response.statusCode !== 200) response.resume();
        else OutputLines.attach(response, (line) => this.#take(line));
      });
      request.once('error', () => resolve());
    });
  }

  /** A log that goes on begins with the second in which it was cut. */
  #take(line: string): void {
    const [, at = '', text = line] = STAMPED.exec(line) ?? [];
    if (at !== '' && at <= this.#last) return;
    if (at !== '') {
      this.#last = at;
      this.#since = at;
    }
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#options.onLine(text);
  }
}
