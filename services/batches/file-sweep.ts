/** What of files and batches goes by itself, and which artifacts they still need. */
import type { Digest } from '../../shared/domain/model.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { allDocuments, changeDocument } from '../registry/documents.ts';
import { takeSweepTurn } from '../registry/sweep-turn.ts';
import { type BatchRecord, isOver, type RunRecord } from './batch-records.ts';
import type { FileRecord, PartRecord } from './file-records.ts';

const SWEEP_MS = 3_600_000;
/** A batch that is over is shown so long after it came. */
const BATCH_MS = 30 * 86_400_000;
/** Parts are written before their file; a batch takes 14 days at most. */
const PART_MS = 15 * 86_400_000;

/** Once an hour, in one of the processes: files past their time, parts of files that are gone, batches of long ago. */
export const sweepFiles = async (documents: Documents, now: number): Promise<void> => {
  if (!(await takeSweepTurn(documents, 'openai', { now, everyMs: SWEEP_MS }))) return;
  const alive = new Set<string>();
  for await (const { key, value } of allDocuments<FileRecord>(documents, 'openai-file')) {
    if (value.expiresAt === null || value.expiresAt > now) alive.add(value.id);
    else await drop(documents, 'openai-file', key);
  }
  for await (const { key, value } of allDocuments<BatchRecord>(documents, 'openai-batch'))
    if (isOver(value.status) && now - value.createdAt > BATCH_MS) await drop(documents, 'openai-batch', key);
  for await (const { key, value } of allDocuments<PartRecord>(documents, 'openai-part'))
    if (now - value.createdAt > PART_MS && !alive.has(key.slice(0, key.lastIndexOf('/'))))
      await drop(documents, 'openai-part', key);
};

const drop = (
  documents: Documents,
  kind: 'openai-file' | 'openai-batch' | 'openai-part',
  key: string,
): Promise<null> => changeDocument(documents, kind, key, () => ({ write: null, answer: null }));

/** Artifacts that files, and batches under way, refer to. */
export async function* fileDigests(documents: Documents): AsyncGenerator<Digest> {
  for await (const { value } of allDocuments<FileRecord>(documents, 'openai-file'))
    if (value.digest !== null) yield value.digest;
  for await (const { value } of allDocuments<RunRecord>(documents, 'openai-run')) yield value.digest;
  for await (const { value } of allDocuments<PartRecord>(documents, 'openai-part')) yield value.digest;
}
