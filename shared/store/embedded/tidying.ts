/**
 * What is looked at between commits: how long the log is, and segments to which nothing refers.
 *
 * The log is moved into the database file when much lies in it. Its file keeps its length, and the next commits are written over
 * the old ones: a sync then has no new length to record (measured: 0.15 ms in place of 0.23). A full disk, or a limit
 * that is reached, needs that room: there the file is cut.
 */
import { PAGE_BYTES } from './database.ts';
import { isNoSpace } from './errors.ts';
import type { Ledger } from './ledger.ts';
import type { WriteAheadLog } from './write-ahead-log.ts';

/** What lies in the log when it is moved: some 30 ms of writing. */
const OPEN_BYTES_MAX = 32 * 2 ** 20;
/** The same where the limit of the data directory is small. */
const OPEN_SHARE_MAX = 1 / 16;
/** While a large document is written: the log grows with every step of it, and others wait for each move. */
const DOCUMENT_BYTES_MAX = 8 * 2 ** 20;
/** Of what may lie in it: so long the file of a long transaction stays. */
const FILE_FACTOR = 2;

/** An earlier SQLite takes this mode, which only looks, for one that moves. */
const LOOKS_SINCE = [3, 51] as const;

/** Whether SQLite can tell how much lies in the log without moving it. */
export const canLook = (version: string): boolean => {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > LOOKS_SINCE[0] || (major === LOOKS_SINCE[0] && minor >= LOOKS_SINCE[1]);
};

const CAN_LOOK = canLook(process.versions.sqlite ?? '');

const openBytesMax = ({ options }: Ledger): number =>
  Math.min(OPEN_BYTES_MAX, options.limitBytes * OPEN_SHARE_MAX);

/** After a long transaction the file is cut to this, when the log begins again. */
export const boundLogFile = (ledger: Ledger): void => {
  ledger.db.exec(`PRAGMA journal_size_limit = ${Math.floor(openBytesMax(ledger) * FILE_FACTOR)}`);
};

/** What lies in the log and not in the database file yet. */
const openBytes = (ledger: Ledger): number => {
  const { log, checkpointed } = ledger.prepare('PRAGMA wal_checkpoint(NOOP)').get() as {
    log: number;
    checkpointed: number;
  };
  return (log - checkpointed) * PAGE_BYTES;
};

/** @param hasDocument a large document was written since the last look */
export const tidy = (ledger: Ledger, log: WriteAheadLog | null, hasDocument: boolean): void => {
  if (ledger.isFull) ledger.segments.cutUnused();
  const recycled = ledger.segments.recycle(() => log?.settle());
  ledger.count('segments_recycled', recycled);
  if (recycled > 0) ledger.disk.forget();
  const most = Math.min(openBytesMax(ledger), hasDocument ? DOCUMENT_BYTES_MAX : Number.POSITIVE_INFINITY);
  const isCut = ledger.isFull || !CAN_LOOK;
  if ((isCut ? ledger.disk.logBytes() : openBytes(ledger)) < most) return;
  const began = performance.now();
  try {
    ledger.prepare(`PRAGMA wal_checkpoint(${isCut ? 'TRUNCATE' : 'RESTART'})`).get();
  } catch (error) {
    if (!isNoSpace(error)) throw error;
  }
  if (ledger.isFull) ledger.disk.forget();
  ledger.count('checkpoints');
  ledger.count('checkpoint_ms_total', performance.now() - began);
};
