/**
 * Ends the retention of inference files: their documents go, and the registry's sweep then finds artifacts that nothing names.
 * Every few minutes, in one of the buffer processes: the first that notes its turn in the store.
 */
import type { DriftRecord, DriftSettings, InferenceFile } from '../../shared/domain/inference.ts';
import type { Digest } from '../../shared/domain/model.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { RepeatedWork } from '../../shared/runtime/repeated-work.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { allDocuments, changeDocument } from '../registry/documents.ts';
import { takeSweepTurn } from '../registry/sweep-turn.ts';

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
  readonly #looks: RepeatedWork;

  constructor(options: InferenceSweepOptions) {
    this.#options = options;
    this.#looks = new RepeatedWork({
      everyMs: LOOK_MS,
      work: () => this.sweep(),
      onError: (err) => options.log.error({ err }, 'inference files could not be swept; trying again'),
    });
  }

  start(): Promise<void> {
    return this.#looks.start();
  }

  stop(): Promise<void> {
    return this.#looks.stop();
  }

  /** @returns how many files went; null: another process has looked within the last minutes */
  async sweep(): Promise<number | null> {
    const { documents, log, wall } = this.#options;
    const now = wall();
    if (!(await takeSweepTurn(documents, 'inferences', { now, everyMs: SWEEP_MS }))) return null;
    const references = new Map<string, Reference>();
    for await (const { value } of allDocuments<DriftRecord>(documents, 'drift'))
      references.set(value.group, value.settings.reference);
    let gone = 0;
    for await (const { key, value } of allDocuments<InferenceFile>(documents, 'inference-file', {
      page: PAGE,
    })) {
      if (this.#looks.isStopped) break;
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
