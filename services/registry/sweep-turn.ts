import type { Documents } from '../../shared/store/ports/documents.ts';
import { changeDocument } from './documents.ts';

/** True for the first process that asks within `everyMs`. A clock may be set back: what lies ahead of now was never so. */
export const takeSweepTurn = (
  documents: Documents,
  sweep: string,
  { now, everyMs }: { readonly now: number; readonly everyMs: number },
): Promise<boolean> =>
  changeDocument<{ at: number }, boolean>(documents, 'sweep', sweep, (last) =>
    last !== undefined && Math.abs(now - last.at) < everyMs
      ? { answer: false }
      : { write: { at: now }, answer: true },
  );
