/** What the store must show, kept row by row: the slow and obvious ledger that the fast one is compared with. */
import type { LeasedBatch, ResultPart } from '../../shared/store/ports/queue.ts';

type RowState = 'waiting' | 'sealed' | 'running' | 'ok' | 'failed' | 'cancelled' | 'expired';
type Row = { state: RowState; batch: number; answer: string };
export type ModelCall = { readonly id: number; readonly rows: Row[]; readonly deadlineAt: number | null };

const FINAL: readonly RowState[] = ['ok', 'failed', 'cancelled', 'expired'];
export const isFinal = ({ state }: Row): boolean => FINAL.includes(state);

export class LedgerModel {
  readonly calls = new Map<number, ModelCall>();
  readonly held: LeasedBatch[] = [];

  admit(id: number, rows: number, deadlineAt: number | null): void {
    const waiting = Array.from({ length: rows }, (): Row => ({ state: 'waiting', batch: 0, answer: '' }));
    this.calls.set(id, { id, rows: waiting, deadlineAt });
  }

  rowsOf({ callId, from, count }: { callId: number; from: number; count: number }): Row[] {
    return this.calls.get(callId)!.rows.slice(from, from + count);
  }

  /** First waiting row, and how many wait. */
  waiting(call: ModelCall): { from: number; count: number } {
    const count = call.rows.filter(({ state }) => state === 'waiting').length;
    return { from: call.rows.length - count, count };
  }

  isPast(call: ModelCall, now: number): boolean {
    return call.deadlineAt !== null && call.deadlineAt <= now;
  }

  end(call: ModelCall, state: 'cancelled' | 'expired', which: (row: Row) => boolean = () => true): void {
    for (const row of call.rows) if (!isFinal(row) && which(row)) row.state = state;
  }

  count(state: RowState): number {
    let count = 0;
    for (const call of this.calls.values()) count += call.rows.filter((row) => row.state === state).length;
    return count;
  }

  /** The call's rows as a result shows them. */
  shown(call: ModelCall): string[] {
    return call.rows.map((row) => (isFinal(row) ? `${row.state} ${row.answer}` : 'pending '));
  }

  statusOf(call: ModelCall): string {
    if (call.rows.some((row) => !isFinal(row))) return 'unfinished';
    for (const state of ['cancelled', 'expired', 'failed'] as const) {
      if (call.rows.some((row) => row.state === state)) return state;
    }
    return 'completed';
  }
}

/** A result row by row: state, and for ok rows the output's first byte and the row in it, for failed ones the message. */
export const shownBy = (parts: readonly ResultPart[]): string[] =>
  parts.flatMap((part) =>
    Array.from({ length: part.count }, (_, index) => {
      if (part.state === 'ok') return `ok ${part.output.bytes[0]}:${part.outputRow + index}`;
      return part.state === 'failed' ? `failed ${part.error.message}` : `${part.state} `;
    }),
  );
