/** Numbers that stand for words in what the stores keep and send. Never reorder: they are stored. */
import type { BatchMode, CallStatus, SealReason } from '../domain/call.ts';

export const STATUSES: readonly CallStatus[] = [
  'pending',
  'running',
  'completed',
  'failed',
  'cancelled',
  'expired',
];
export const REASONS: readonly SealReason[] = ['size', 'bytes', 'age', 'drain', 'call'];
export const MODES: readonly BatchMode[] = ['fresh', 'retry', 'isolate'];
/** States of a part; `pending` is never stored. */
export const PART = { ok: 0, failed: 1, cancelled: 2, expired: 3, pending: 4 } as const;
export const PART_STATES = ['ok', 'failed', 'cancelled', 'expired', 'pending'] as const;
/** Numbers of a part: state, first row, rows, batch, place (output row, or index of the batch's error). */
export const PART_WIDTH = 5;
/** Numbers of a slice: call, first row, rows. */
export const SLICE_WIDTH = 3;
