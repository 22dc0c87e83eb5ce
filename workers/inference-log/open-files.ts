/**
 * Files that are gathered: rows of one version with the same columns, until there are enough of them, or the first has waited
 * for `flush_ms`. Lives in the writing thread.
 */
import { INFERENCE_FLUSH_MS_MAX } from '../../shared/domain/inference.ts';
import { inputFields } from './file-table.ts';
import type { Sample, VersionFacts } from './sample.ts';
import { cutRuns } from './sampling.ts';

/** Enough for a row group that compresses well, and little enough to be lost. */
export const FILE_ROWS_MAX = 50_000;
export const FILE_BYTES_MAX = 16 * 2 ** 20;
/** Of one version, where callers send other columns each time: one more closes the oldest. */
const FILES_MAX = 8;

export type GatheredFile = {
  readonly facts: VersionFacts;
  readonly samples: readonly Sample[];
  readonly rows: number;
  readonly bytes: number;
};

type OpenFile = GatheredFile & {
  readonly samples: Sample[];
  rows: number;
  bytes: number;
  /** Bytes, and the messages once more for each row that they are written for. */
  writtenBytes: number;
  /** Of its rows. */
  oldest: number;
  newest: number;
  readonly timer: NodeJS.Timeout;
};

const messageBytes = ({ runs }: Sample): number =>
  runs.reduce(
    (sum, { count, error }) => sum + (error === null ? 0 : count * Buffer.byteLength(error.message)),
    0,
  );

export class OpenFiles {
  readonly #onFull: (file: GatheredFile) => void;
  readonly #versions = new Map<
    number,
    { readonly facts: VersionFacts; readonly files: Map<string, OpenFile> }
  >();

  constructor(onFull: (file: GatheredFile) => void) {
    this.#onFull = onFull;
  }

  open(facts: VersionFacts): void {
    this.#versions.set(facts.versionId, { facts, files: new Map() });
  }

  /** @throws SluiceError `invalid_arrow` for bytes that were no streams after all */
  add(sample: Sample): void {
    const version = this.#versions.get(sample.versionId)!;
    const key = JSON.stringify(inputFields(sample, version.facts));
    // A batch has up to a million rows.
    const rowsMax = Math.min(FILE_ROWS_MAX, Math.ceil((sample.rows * FILE_BYTES_MAX) / messageBytes(sample)));
    if (sample.rows <= rowsMax) {
      this.#put(sample, key);
      return;
    }
    let bytes = sample.bytes;
    for (const runs of cutRuns(sample.runs, rowsMax)) {
      const rows = runs.reduce((sum, { count }) => sum + count, 0);
      const share = Math.min(bytes, Math.ceil((sample.bytes * rows) / sample.rows));
      bytes -= share;
      this.#put({ ...sample, runs, rows, bytes: share }, key);
    }
  }

  #put(sample: Sample, key: string): void {
    const { facts, files } = this.#versions.get(sample.versionId)!;
    const { at, rows, bytes } = sample;
    const open = files.get(key);
    // Clocks are set, and timers sleep with their machine.
    if (open !== undefined && Math.max(open.newest, at) - Math.min(open.oldest, at) > INFERENCE_FLUSH_MS_MAX)
      this.#close(files, key);
    const file = files.get(key) ?? this.#begin(facts, files, key, at);
    file.samples.push(sample);
    file.rows += rows;
    file.bytes += bytes;
    file.writtenBytes += bytes + messageBytes(sample);
    file.oldest = Math.min(file.oldest, at);
    file.newest = Math.max(file.newest, at);
    if (file.rows >= FILE_ROWS_MAX || file.writtenBytes >= FILE_BYTES_MAX) this.#close(files, key);
  }

  #begin(facts: VersionFacts, files: Map<string, OpenFile>, key: string, at: number): OpenFile {
    const [oldest] = files.keys();
    if (oldest !== undefined && files.size === FILES_MAX) this.#close(files, oldest);
    const timer = setTimeout(() => this.#close(files, key), facts.flushMs);
    const file = { facts, samples: [], rows: 0, bytes: 0, writtenBytes: 0, oldest: at, newest: at, timer };
    files.set(key, file);
    return file;
  }

  #close(files: Map<string, OpenFile>, key: string): void {
    const file = files.get(key);
    if (file === undefined) return;
    files.delete(key);
    clearTimeout(file.timer);
    this.#onFull(file);
  }

  /** Files that are not full go as they are; null: those of all versions. */
  flush(versionId: number | null): void {
    for (const [id, { files }] of this.#versions)
      if (versionId === null || id === versionId)
        for (const key of [...files.keys()]) this.#close(files, key);
  }
}
