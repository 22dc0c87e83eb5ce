/**
 * Ends the retention of inference files: their documents go, and the registry's sweep then finds artifacts that nothing names.
 * Every few minutes, in one of the buffer processes: the first that notes its turn in the store.
 */
import type { DriftRecord, DriftSettings, InferenceFile } from '../../shared/domain/inference.ts';
import type { Digest } from '../../shared/domain/model.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { allDocuments, changeDocument } from '../registry/documents.ts';

const SWEEP_MS = 300_000;
/** How often a process looks whether it is time. */
const LOOK_MS = 60_000;
/** A file's document is some hundred bytes, and there may be hundreds of thousands. */
const PAGE = 1000;

type Reference = DriftSettings['reference'];

export type InferenceSweepOptions = {
  readonly documents: Documents;
  readonly log: Log;
  readonly wall: () => number;
};

export class InferenceSweep implements Service {
  readonly #options: InferenceSweepOptions;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();
  #isBusy = false;
  #isStopped = false;

  constructor(options: InferenceSweepOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    if (this.#isStopped) return;
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#running;
  }

  #look(): void {
    if (this.#isBusy || this.#isStopped) return;
    this.#isBusy = true;
    this.#running = this.sweep()
      .then(() => undefined)
      .catch((error: unknown) =>
        this.#options.log.error({ err: error }, 'inference files could not be swept; trying again'),
      )
      .finally(() => {
        this.#isBusy = false;
      });
  }

  /** @returns how many files went; null: another process has looked within the last minutes */
  async sweep(): Promise<number | null> {
    const { documents, log, wall } = this.#options;
    const now = wall();
    const isTurn = await changeDocument<{ at: number }, boolean>(documents, 'sweep', 'inferences', (last) =>
      // A clock may be set back.
      last !== undefined && Math.abs(now - last.at) < SWEEP_MS
        ? { answer: false }
        : { write: { at: now }, answer: true },
    );
    if (!isTurn) return null;
    const references = new Map<string, Reference>();
    for await (const { value } of allDocuments<DriftRecord>(documents, 'drift'))
      references.set(value.group, value.settings.reference);
    let gone = 0;
    for await (const { key, value } of allDocuments<InferenceFile>(documents, 'inference-file', {
      page: PAGE,
    })) {
      if (this.#isStopped) break;
      if (value.until + value.retentionMs > now || isIn(references.get(value.group), value)) continue;
      await changeDocument(documents, 'inference-file', key, () => ({ write: null, answer: null }));
      gone += 1;
    }
    if (gone > 0) log.info({ files: gone }, 'inference files went whose retention was over');
    return gone;
  }
}

/** Drift is computed against it, however old it is. */
const isIn = (reference: Reference | undefined, { from, until }: InferenceFile): boolean =>
  reference !== undefined && from < reference.until && until >= reference.from;

/** Artifacts that the inference store names. */
export async function* inferenceDigests(documents: Documents): AsyncGenerator<Digest> {
  for await (const { value } of allDocuments<InferenceFile>(documents, 'inference-file', { page: PAGE }))
    yield value.digest;
}
