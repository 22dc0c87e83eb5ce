/** What a data directory holds, for the comparison of both sides of a migration. */
import type { TransferCounts } from '../ports/transfer.ts';
import type { Ledger } from './ledger.ts';

type Sums = { n: number; rows: number; failed: number; cancelled: number; expired: number };

/** Finished calls whose retention ended before `since` are not counted: they are not moved. */
export const countEmbedded = (ledger: Ledger, since: number): TransferCounts => {
  const one = (text: string, ...values: number[]): number =>
    (ledger.db.prepare(text).get(...values) as { n: number }).n;
  const done = ledger.db
    .prepare(
      `SELECT count(*) AS n, coalesce(sum(rows), 0) AS rows, coalesce(sum(failed), 0) AS failed,
       coalesce(sum(cancelled), 0) AS cancelled, coalesce(sum(expired), 0) AS expired FROM done WHERE expires > ?`,
    )
    .get(since) as Sums;
  const live = ledger.db
    .prepare('SELECT count(*) AS n, coalesce(sum(rows), 0) AS rows FROM live')
    .get() as Sums;
  let [settled, failed, expired] = [0, 0, 0];
  for (const call of ledger.live.values()) {
    settled += call.settled;
    failed += call.failed;
    expired += call.expired;
  }
  const liveOk = settled - failed - expired;
  return {
    functions: one('SELECT count(*) AS n FROM functions'),
    versions: one('SELECT count(*) AS n FROM versions'),
    stagedVersions: one('SELECT count(staged) AS n FROM functions'),
    scalings: one('SELECT count(scaling) AS n FROM functions'),
    keys: one('SELECT count(*) AS n FROM keys'),
    documents: one('SELECT count(*) AS n FROM documents'),
    documentBytes: one('SELECT coalesce(sum(bytes), 0) AS n FROM documents'),
    unfinishedCalls: live.n,
    finishedCalls: done.n,
    idempotencyKeys: one(
      'SELECT count(*) AS n FROM idempotency WHERE call NOT IN (SELECT id FROM done WHERE expires <= ?)',
      since,
    ),
    openBatches: ledger.batches.size,
    rows: {
      open: live.rows - settled,
      ok: done.rows - done.failed - done.cancelled - done.expired + liveOk,
      failed: done.failed + failed,
      cancelled: done.cancelled,
      expired: done.expired + expired,
    },
  };
};
