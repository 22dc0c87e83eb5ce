/** Runs the batches that nobody runs: looks for them every second, claims one, and goes on where it was left. */
import { randomUUID } from 'node:crypto';
import type { Log } from '../../shared/runtime/log.ts';
import { RepeatedWork } from '../../shared/runtime/repeated-work.ts';
import type { Service } from '../../shared/runtime/service.ts';
import { changeDocument } from '../registry/documents.ts';
import type { RunRecord } from './batch-records.ts';
import { BatchRun, ClaimLost } from './batch-run.ts';
import type { RunParts } from './chunk-run.ts';
import { sweepFiles } from './file-sweep.ts';

const LOOK_MS = 1000;
const SWEEP_MS = 600_000;
/** Of one process: each has some ten megabytes of lines and answers in memory. */
const RUNS_MAX = 8;
const LISTED_MAX = 1000;
/** A run that came no further for so long, as of a function that nobody runs, gives its place to one that waits. */
const STALL_MS = 30_000;
/** What broke is tried again after these. */
const BACK_OFF_MS_MIN = 1000;
const BACK_OFF_MS_MAX = 60_000;

/** Its turn is over; it goes on in the next one, in the same calls. */
class TurnOver extends Error {}

type Failed = { readonly backOffMs: number; readonly at: number };

export class BatchRunner implements Service {
  readonly #parts: RunParts & { readonly log: Log };
  readonly #running = new Map<string, { readonly run: BatchRun; readonly done: Promise<void> }>();
  readonly #failed = new Map<string, Failed>();
  /** When a run last gave its place away. */
  readonly #turns = new Map<string, number>();
  readonly #token = randomUUID();
  readonly #looks: RepeatedWork;
  readonly #sweeps: RepeatedWork;

  constructor(parts: RunParts & { readonly log: Log }) {
    this.#parts = parts;
    const { store, log, wall } = parts;
    this.#looks = new RepeatedWork({
      everyMs: LOOK_MS,
      work: () => this.#begin(),
      onError: (err) => log.warn({ err }, 'batches could not be looked for'),
    });
    this.#sweeps = new RepeatedWork({
      everyMs: SWEEP_MS,
      work: () => sweepFiles(store.documents, wall()),
      onError: (err) => log.warn({ err }, 'files of batches could not be swept; trying again'),
    });
  }

  async start(): Promise<void> {
    await Promise.all([this.#looks.start(), this.#sweeps.start()]);
    this.#looks.look();
  }

  /** What runs is left where it is; another process, or the next one, goes on at once. */
  async stop(): Promise<void> {
    await Promise.all([this.#looks.stop(), this.#sweeps.stop()]);
    const running = [...this.#running.values()];
    for (const { run } of running) run.halt(new Error('the process stops'));
    await Promise.all(running.map(({ done }) => done));
  }

  async #begin(): Promise<void> {
    const { store } = this.#parts;
    const runs = await store.documents.list({ kind: 'openai-run', limit: LISTED_MAX });
    const known = new Set(runs.map(({ key }) => key));
    for (const ids of [this.#failed, this.#turns])
      for (const id of ids.keys()) if (!known.has(id)) ids.delete(id);
    const free = runs.filter(
      ({ key, value }) =>
        !this.#running.has(key) && this.#isFree(value as RunRecord) && !this.#isWaiting(key),
    );
    // Whoever came first is first, unless it had its turn; ids sort the other way.
    const rank = ({ key, value }: (typeof free)[number]): number =>
      this.#turns.get(key) ?? (value as RunRecord).createdAt;
    const hadTurn = ({ key }: (typeof free)[number]): number => Number(this.#turns.has(key));
    for (const { key } of free.sort((a, b) => hadTurn(a) - hadTurn(b) || rank(a) - rank(b))) {
      if (this.#looks.isStopped) return;
      if (this.#running.size >= RUNS_MAX) return this.#endTurn();
      if (await this.#claim(key)) this.#start(key);
    }
  }

  /** Of the run that came no further for the longest time. */
  #endTurn(): void {
    const now = this.#parts.wall();
    const [longest] = [...this.#running].sort(([, a], [, b]) => a.run.progressAt - b.run.progressAt);
    const [id, { run }] = longest!;
    if (now - run.progressAt < STALL_MS) return;
    this.#turns.set(id, now);
    run.halt(new TurnOver('others wait for their turn'));
  }

  /** On a store of one process every claim of another is of one that is dead. */
  #isFree({ claim }: RunRecord): boolean {
    const { store, wall } = this.#parts;
    return claim === null || claim.until <= wall() || store.coordination.exclusive;
  }

  #isWaiting(id: string): boolean {
    const failed = this.#failed.get(id);
    return failed !== undefined && Math.abs(this.#parts.wall() - failed.at) < failed.backOffMs;
  }

  #claim(id: string): Promise<boolean> {
    const { store, wall, claimMs } = this.#parts;
    return changeDocument<RunRecord, boolean>(store.documents, 'openai-run', id, (run) => {
      if (run === undefined || !this.#isFree(run)) return { answer: false };
      const claim = { token: this.#token, until: wall() + claimMs };
      return { write: { ...run, claim }, answer: true };
    });
  }

  #start(id: string): void {
    const run = new BatchRun(this.#parts, id, this.#token);
    const done = run
      .run()
      .then(() => {
        this.#failed.delete(id);
      })
      .catch((error: unknown) => this.#note(id, error))
      .then(() => this.#release(id))
      .finally(() => this.#running.delete(id));
    this.#running.set(id, { run, done });
  }

  #note(id: string, error: unknown): void {
    if (this.#looks.isStopped || error instanceof ClaimLost || error instanceof TurnOver) return;
    const before = this.#failed.get(id)?.backOffMs;
    const backOffMs = before === undefined ? BACK_OFF_MS_MIN : Math.min(2 * before, BACK_OFF_MS_MAX);
    this.#failed.set(id, { backOffMs, at: this.#parts.wall() });
    this.#parts.log.warn({ err: error, batch: id }, 'a batch could not go on; trying again');
  }

  async #release(id: string): Promise<void> {
    const { documents } = this.#parts.store;
    await changeDocument<RunRecord, null>(documents, 'openai-run', id, (run) =>
      run?.claim?.token === this.#token ? { write: { ...run, claim: null }, answer: null } : { answer: null },
    ).catch(() => undefined);
  }
}
