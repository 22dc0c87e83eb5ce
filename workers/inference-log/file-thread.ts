/** A thread of its own gathers sampled rows and encodes them: Parquet is encoded synchronously, and takes milliseconds for each megabyte. */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import type { Digest } from '../../shared/domain/model.ts';
import { isTrap } from '../../shared/parquet/trap.ts';
import { parquetOf } from '../../shared/parquet/writer.ts';
import { CallIds } from '../../shared/wire/call-id.ts';
import { fileTable, REPEATING_COLUMNS } from './file-table.ts';
import { type GatheredFile, OpenFiles } from './open-files.ts';
import { type PackedSample, type Sample, unpackedSample, type VersionFacts } from './sample.ts';

export type ThreadQuestion =
  | { readonly is: 'version'; readonly facts: VersionFacts }
  | { readonly is: 'rows'; readonly sample: PackedSample }
  /** What is gathered of a version becomes files. null: of all versions; `flushed` is the answer when they were sent. */
  | { readonly is: 'flush'; readonly versionId: number | null };

export type WrittenFile = {
  readonly digest: Digest;
  readonly parquet: Uint8Array;
  readonly rows: number;
  readonly from: number;
  readonly until: number;
};

export type ThreadAnswer =
  | {
      readonly is: 'file';
      readonly versionId: number;
      /** Of the samples that it was made of: they wait no more. */
      readonly rows: number;
      readonly bytes: number;
      /** null: nothing of it could be written. */
      readonly file: WrittenFile | null;
      /** Why rows are missing; null when all are there. */
      readonly reason: string | null;
    }
  | { readonly is: 'flushed' };

const port = parentPort!;
const ids = new CallIds((workerData as { readonly generation: string }).generation);
const callIdText = (callId: number): string => ids.encode(callId);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const post = (answer: ThreadAnswer, transfer: readonly ArrayBuffer[] = []): void =>
  port.postMessage(answer, transfer);

/** One file is encoded after the other. */
let encoding: Promise<void> = Promise.resolve();

const files = new OpenFiles((file) => {
  encoding = encoding.then(() => write(file));
});

const write = async ({ facts, samples, rows, bytes }: GatheredFile): Promise<void> => {
  const { good, table, reason } = tableOf(samples, facts);
  const answer = { is: 'file', versionId: facts.versionId, rows, bytes } as const;
  if (table === null) {
    post({ ...answer, file: null, reason });
    return;
  }
  try {
    const parquet = await parquetOf(table, REPEATING_COLUMNS);
    const digest = `sha256:${createHash('sha256').update(parquet).digest('hex')}`;
    const times = good.map(({ at }) => at);
    const [from, until] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
    const written = good.reduce((sum, sample) => sum + sample.rows, 0);
    const whole = parquet.byteLength === parquet.buffer.byteLength ? parquet : parquet.slice();
    post({ ...answer, file: { digest, parquet: whole, rows: written, from, until }, reason }, [
      whole.buffer as ArrayBuffer,
    ]);
  } catch (error) {
    // The thread ends, and another one begins.
    if (isTrap(error)) throw error;
    post({ ...answer, file: null, reason: messageOf(error) });
  }
};

type Table = {
  readonly good: readonly Sample[];
  readonly table: Uint8Array | null;
  readonly reason: string | null;
};

/** A batch whose values cannot be written costs its own rows only. */
const tableOf = (samples: readonly Sample[], facts: VersionFacts): Table => {
  try {
    return { good: samples, table: fileTable(samples, facts, callIdText), reason: null };
  } catch (error) {
    const good = samples.filter((sample) => isWritable(sample, facts));
    const isPart = good.length > 0 && good.length < samples.length;
    const table = isPart ? fileTable(good, facts, callIdText) : null;
    return { good, table, reason: messageOf(error) };
  }
};

const isWritable = (sample: Sample, facts: VersionFacts): boolean => {
  try {
    fileTable([sample], facts, callIdText);
    return true;
  } catch {
    return false;
  }
};

const add = (sample: Sample): void => {
  const { versionId, rows, bytes } = sample;
  try {
    files.add(sample);
  } catch (error) {
    post({ is: 'file', versionId, rows, bytes, file: null, reason: messageOf(error) });
  }
};

port.on('message', (question: ThreadQuestion) => {
  if (question.is === 'rows') add(unpackedSample(question.sample));
  else if (question.is === 'version') files.open(question.facts);
  else {
    files.flush(question.versionId);
    if (question.versionId === null) void encoding.then(() => post({ is: 'flushed' }));
  }
});
