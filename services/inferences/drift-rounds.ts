/**
 * Computes drift figures: every minute, in one of the buffer processes, for every group that has a reference. The process
 * that notes its turn in the store first has it, for as long as it says so again; one that dies in its turn is followed after
 * a minute. Figures that are young are not computed again, so that who asks for new ones waits for no other group's.
 */
import { randomUUID } from 'node:crypto';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { RepeatedWork } from '../../shared/runtime/repeated-work.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { ArtifactsOptions } from '../../shared/store/artifacts/index.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { changeDocument } from '../registry/documents.ts';
import { DriftComparison } from './drift-comparison.ts';
import { type ComparedGroup, driftRecords, noteFigures, removeDrift } from './drift-records.ts';

export const DRIFT_ROUND_MS = 60_000;
/** How often a process looks whether it is time. */
const LOOK_MS = 1000;
/** A turn that is not renewed for so long is over; it is renewed three times as often. */
const TURN_MS = 60_000;
/** A round that begins a little early computes them nevertheless. */
const YOUNG_MS = DRIFT_ROUND_MS / 2;

type Turn = { readonly at: number; readonly holder: string | null; readonly until: number };

export type DriftRoundsOptions = {
  readonly documents: Documents;
  readonly artifacts: ArtifactsOptions;
  readonly log: Log;
  readonly wall: () => number;
};

/** The next look of any process begins a round. */
export const hastenDrift = (documents: Documents): Promise<null> =>
  changeDocument<Turn, null>(documents, 'sweep', 'drift', (turn) =>
    turn === undefined ? { answer: null } : { write: { ...turn, at: 0 }, answer: null },
  );

export class DriftRounds implements Service {
  readonly #options: DriftRoundsOptions;
  readonly #comparison: DriftComparison;
  readonly #holder = randomUUID();
  readonly #stopping = new AbortController();
  readonly #looks: RepeatedWork;

  constructor(options: DriftRoundsOptions) {
    this.#options = options;
    this.#comparison = new DriftComparison(options);
    this.#looks = new RepeatedWork({
      everyMs: LOOK_MS,
      work: () => this.round(),
      onError: (err) => options.log.error({ err }, 'drift figures could not be computed; trying again'),
    });
  }

  start(): Promise<void> {
    return this.#looks.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#looks.stop();
    await this.#comparison.stop();
  }

  /** @returns how many groups' figures were computed; null: it is not this process's turn, or not time */
  async round(): Promise<number | null> {
    const { log, wall } = this.#options;
    const began = wall();
    if (!(await this.#takeTurn(began))) return null;
    const renewing = setInterval(() => {
      this.#holdTurn(wall() + TURN_MS).catch((error: unknown) =>
        log.warn({ err: error }, 'the turn of computing drift figures could not be renewed'),
      );
    }, TURN_MS / 3);
    try {
      return await this.#computeAll(began);
    } finally {
      clearInterval(renewing);
      await this.#holdTurn(0);
    }
  }

  async #takeTurn(now: number): Promise<boolean> {
    const { documents } = this.#options;
    return changeDocument<Turn, boolean>(documents, 'sweep', 'drift', (turn) => {
      // A clock may be set back, and clocks of two machines differ: what lies far ahead was never so.
      const leftMs = turn === undefined || turn.holder === this.#holder ? 0 : turn.until - now;
      const isHeld = leftMs > 0 && leftMs <= 2 * TURN_MS;
      if (isHeld || (turn !== undefined && Math.abs(now - turn.at) < DRIFT_ROUND_MS))
        return { answer: false };
      return { write: { at: now, holder: this.#holder, until: now + TURN_MS }, answer: true };
    });
  }

  /** Up to `until`; 0 gives it up. Nothing where another process has taken it. */
  async #holdTurn(until: number): Promise<void> {
    await changeDocument<Turn, null>(this.#options.documents, 'sweep', 'drift', (turn) =>
      turn?.holder === this.#holder ? { write: { ...turn, until }, answer: null } : { answer: null },
    );
  }

  /** Those whose figures are oldest first, so that a round that was cut off is made up for. */
  async #computeAll(began: number): Promise<number> {
    const due: { readonly record: ComparedGroup; readonly at: number }[] = [];
    let records = 0;
    for await (const { group, settings, figures } of driftRecords(this.#options.documents)) {
      records += 1;
      const at = figures?.at ?? 0;
      if (Math.abs(began - at) >= YOUNG_MS) due.push({ record: { group, settings }, at });
    }
    if (records === 0) await this.#comparison.stop();
    due.sort((a, b) => a.at - b.at);
    let computed = 0;
    for (const { record } of due) {
      if (this.#stopping.signal.aborted) break;
      if (await this.#compute(record)) computed += 1;
    }
    return computed;
  }

  /** What fails here is this group's alone. */
  async #compute(record: ComparedGroup): Promise<boolean> {
    const { documents, log, wall } = this.#options;
    const { group } = record;
    try {
      if ((await documents.get('scaling-group', group)) === undefined) {
        await removeDrift(documents, group);
        return false;
      }
      const figures = await this.#comparison.figures(record, wall(), this.#stopping.signal);
      return await noteFigures(documents, record, figures);
    } catch (error) {
      if (this.#stopping.signal.aborted) return false;
      log.error({ err: error, group }, "a group's drift figures could not be computed");
      // Where the store fails, the figures that there are stay.
      if (!(error instanceof SluiceError)) await this.#noteFailure(record, error).catch(() => false);
      return false;
    }
  }

  #noteFailure(record: ComparedGroup, error: unknown): Promise<boolean> {
    const what = error instanceof Error ? error.message : String(error);
    return noteFigures(this.#options.documents, record, {
      ...{ at: this.#options.wall(), referenceRows: 0, windowRows: 0, columns: [] },
      reason: `The figures could not be computed: ${what}`,
    });
  }
}
