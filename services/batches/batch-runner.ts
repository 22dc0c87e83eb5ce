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
import { nextOf, type Place, placeToGive, type Waiting } from './turns.ts';

const LOOK_MS = 1000;
const SWEEP_MS = 600_000;
/** Of one process: each has some ten megabytes of lines and answers in memory. */
const RUNS_MAX = 8;
/** Beside them: what is cancelled, or past its window, only has its end to come, and waits for none of them. */
const ENDINGS_MAX = 2;
const LISTED_MAX = 1000;
/** What broke is tried again after these. */
const BACK_OFF_MS_MIN = 1000;
const BACK_OFF_MS_MAX = 60_000;

/** Its turn is over; it goes on in the next one, in the same calls. */
class TurnOver extends Error {}

type Failed = { readonly backOffMs: number; readonly at: number };

type Running = {
  readonly run: BatchRun;
  readonly owner: string;
  /** It was cancelled, or past its window, when it got its place. */
  readonly isEnding: boolean;
  readonly done: Promise<void>;
};

export class BatchRunner implements Service {
  readonly #parts: RunParts & { readonly log: Log };
  readonly #running = new Map<string, Running>();
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
    const now = this.#parts.wall();
    const free = runs
      .map(({ key: id, value }) => ({ id, run: value as RunRecord }))
      .filter(({ id, run }) => !this.#running.has(id) && this.#isFree(run) && !this.#isWaiting(id));
    for (const isEnding of [true, false]) {
      const waiting = free
        .filter(({ run }) => run.endsAt <= now === isEnding)
        .map((one) => this.#waiting(one));
      await this.#fill(isEnding, waiting);
    }
  }

  #waiting({ id, run }: { readonly id: string; readonly run: RunRecord }): Waiting {
    const owner = run.key.slice(0, run.key.indexOf('/'));
    return { id, owner, createdAt: run.createdAt, turnAt: this.#turns.get(id) ?? null };
  }

  async #fill(isEnding: boolean, waiting: readonly Waiting[]): Promise<void> {
    for (let left = waiting; left.length > 0 && !this.#looks.isStopped; ) {
      const places = this.#places(isEnding);
      if (places.length >= (isEnding ? ENDINGS_MAX : RUNS_MAX)) return this.#endTurn(places, left);
      const next = nextOf(left, places);
      left = left.filter((one) => one !== next);
      if (await this.#claim(next.id)) this.#start(next, isEnding);
    }
  }

  #places(isEnding: boolean): readonly Place[] {
    return [...this.#running]
      .filter(([, running]) => running.isEnding === isEnding)
      .map(([id, { owner, run }]) => ({ id, owner, progressAt: run.progressAt }));
  }

  #endTurn(places: readonly Place[], waiting: readonly Waiting[]): void {
    // One that is on its way out has its place until it is.
    if (places.some(({ id }) => this.#running.get(id)?.run.isHalted)) return;
    const now = this.#parts.wall();
    const given = placeToGive(places, waiting, now);
    if (given === null) return;
    this.#turns.set(given.id, now);
    this.#running.get(given.id)?.run.halt(new TurnOver('others wait for their turn'));
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

  #start({ id, owner }: Waiting, isEnding: boolean): void {
    const run = new BatchRun(this.#parts, id, this.#token);
    const done = run
      .run()
      .then(() => {
        this.#failed.delete(id);
      })
      .catch((error: unknown) => this.#note(id, error))
      .then(() => this.#release(id))
      .finally(() => this.#running.delete(id));
    this.#running.set(id, { run, owner, isEnding, done });
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
