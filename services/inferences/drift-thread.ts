/** A thread of its own reads inference files and compares them: neither decoding nor sorting stalls anything else. */
import { parentPort, workerData } from 'node:worker_threads';
import { type DriftReference, driftOf, driftReference } from '../../shared/domain/drift.ts';
import type { ColumnDrift, DriftFigures } from '../../shared/domain/inference.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { ParquetError } from '../../shared/parquet/reader.ts';
import { type ArtifactsOptions, openArtifacts } from '../../shared/store/artifacts/index.ts';
import type { Portion, TimeRange } from './drift-portions.ts';
import { DriftSampler } from './drift-sampler.ts';

export type DriftSideRequest = { readonly range: TimeRange; readonly portions: readonly Portion[] };

export type DriftRequest = {
  /** Of the group and its reference. */
  readonly key: string;
  /** null: the one that is kept under the key. */
  readonly reference: (DriftSideRequest & { readonly isFinal: boolean }) | null;
  readonly window: DriftSideRequest;
};

export type DriftAnswer =
  /** Ask again with the reference. */
  | { readonly is: 'forgotten' }
  | {
      readonly is: 'compared';
      readonly figures: Omit<DriftFigures, 'at'>;
      /** Files that could not be read, and why the first one could not. */
      readonly unreadable: number;
      readonly detail: string | null;
      /** A trap of WebAssembly may have left it in any state. */
      readonly isSpoilt: boolean;
    }
  /** `isOutside`: the store's trouble, not the data's. */
  | { readonly is: 'failed'; readonly message: string; readonly isOutside: boolean };

/** References of sorted numbers, the one used longest ago goes first. */
const KEPT_BYTES_MAX = 64 * 2 ** 20;

type Reference = { readonly rows: number; readonly columns: ReadonlyMap<string, DriftReference> };

const artifacts = openArtifacts(workerData as ArtifactsOptions);
const kept = new Map<string, Reference>();
const never = new AbortController().signal;

const bytesOf = ({ columns }: Reference): number =>
  [...columns.values()].reduce(
    (sum, column) => sum + (column.kind === 'ordered' ? column.side.sorted.buffer.byteLength : 0),
    0,
  );

const keep = (key: string, reference: Reference): void => {
  kept.delete(key);
  kept.set(key, reference);
  let bytes = [...kept.values()].reduce((sum, one) => sum + bytesOf(one), 0);
  for (const [oldest, one] of kept) {
    if (bytes <= KEPT_BYTES_MAX) return;
    kept.delete(oldest);
    bytes -= bytesOf(one);
  }
};

type Trouble = { unreadable: number; detail: string | null; isSpoilt: boolean };

const sampled = async ({ range, portions }: DriftSideRequest, found: Trouble): Promise<DriftSampler> => {
  const sampler = new DriftSampler(range);
  for (const { digest, rate } of portions) {
    try {
      await sampler.add(await artifacts.file(digest, never), rate);
    } catch (error) {
      // One that went meanwhile is past its retention.
      if (error instanceof SluiceError && error.code === 'artifact_not_found') continue;
      if (error instanceof SluiceError && error.code !== 'invalid_arrow') throw error;
      found.unreadable += 1;
      found.detail ??= `${digest}: ${error instanceof Error ? error.message : String(error)}`;
      found.isSpoilt ||= error instanceof ParquetError && error.isTrap;
    }
  }
  return sampler;
};

const referenceOf = async (
  { key, reference }: DriftRequest,
  trouble: Trouble,
): Promise<Reference | undefined> => {
  if (reference === null) return kept.get(key);
  const sampler = await sampled(reference, trouble);
  const columns = new Map([...sampler.sides()].map(([name, side]) => [name, driftReference(side)]));
  const made = { rows: sampler.rows, columns };
  if (reference.isFinal && trouble.unreadable === 0) keep(key, made);
  return made;
};

const why = (referenceRows: number, windowRows: number, { unreadable, detail }: Trouble): string | null => {
  if (referenceRows > 0 && windowRows > 0) return null;
  const side = referenceRows === 0 ? 'reference' : 'window';
  const files = unreadable === 0 ? '' : ` ${unreadable} files cannot be read, the first of them ${detail}`;
  return `There are no sampled rows in the ${side}.${files}`;
};

const compared = async (request: DriftRequest): Promise<DriftAnswer> => {
  const trouble: Trouble = { unreadable: 0, detail: null, isSpoilt: false };
  const reference = await referenceOf(request, trouble);
  if (reference === undefined) return { is: 'forgotten' };
  const window = await sampled(request.window, trouble);
  const sides = window.sides();
  const reason = why(reference.rows, window.rows, trouble);
  const names = [...new Set([...reference.columns.keys(), ...sides.keys()])].sort();
  const columns = names.map((column): ColumnDrift => {
    const [a, b] = [reference.columns.get(column), sides.get(column)];
    return { column, ...(a === undefined || b === undefined ? { psi: null, ks: null } : driftOf(a, b)) };
  });
  const figures = {
    ...{ referenceRows: reference.rows, windowRows: window.rows },
    ...{ columns: reason === null ? columns : [], reason },
  };
  return { is: 'compared', figures, ...trouble };
};

const answered = (request: DriftRequest): Promise<DriftAnswer> =>
  compared(request).catch((error: unknown) => ({
    is: 'failed' as const,
    message: error instanceof Error ? error.message : String(error),
    isOutside: error instanceof SluiceError,
  }));

parentPort!.on('message', async (request: DriftRequest) => {
  parentPort!.postMessage((await answered(request)) satisfies DriftAnswer);
});
