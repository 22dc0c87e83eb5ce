/**
 * Files that are gathered: rows of one version with the same columns, until there are enough of them, or the first has waited
 * for `flush_ms`. Lives in the writing thread.
 */
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
  readonly timer: NodeJS.Timeout;
};

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
    if (sample.rows <= FILE_ROWS_MAX) {
      this.#put(sample, key);
      return;
    }
    let bytes = sample.bytes;
    for (const runs of cutRuns(sample.runs, FILE_ROWS_MAX)) {
      const rows = runs.reduce((sum, { count }) => sum + count, 0);
      const share = Math.min(bytes, Math.ceil((sample.bytes * rows) / sample.rows));
      bytes -= share;
      this.#put({ ...sample, runs, rows, bytes: share }, key);
    }
  }

  #put(sample: Sample, key: string): void {
    const { facts, files } = this.#versions.get(sample.versionId)!;
    const file = files.get(key) ?? this.#begin(facts, files, key);
    file.samples.push(sample);
    file.rows += sample.rows;
    file.bytes += sample.bytes;
    if (file.rows >= FILE_ROWS_MAX || file.bytes >= FILE_BYTES_MAX) this.#close(files, key);
  }

  #begin(facts: VersionFacts, files: Map<string, OpenFile>, key: string): OpenFile {
    const [oldest] = files.keys();
    if (oldest !== undefined && files.size === FILES_MAX) this.#close(files, oldest);
    const timer = setTimeout(() => this.#close(files, key), facts.flushMs);
    const file = { facts, samples: [], rows: 0, bytes: 0, timer };
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
