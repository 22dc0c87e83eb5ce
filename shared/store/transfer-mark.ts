/** What a store says of a migration: that it is leaving, has left, or is not wholly here yet. */
import { SluiceError } from '../errors/sluice-error.ts';
import type { TransferPosition } from './ports/transfer.ts';

export type LeavingMark = {
  readonly state: 'leaving' | 'left';
  readonly id: string;
  readonly to: string;
  readonly begunAt: number;
};
export type ArrivingMark = {
  readonly state: 'arriving' | 'arrived';
  readonly id: string;
  readonly from: string;
  readonly position: TransferPosition;
};
export type TransferMark = LeavingMark | ArrivingMark;

/** @throws SluiceError where the store is leaving, has left or is arriving: it would run calls twice, or half of them */
export const checkServable = (mark: TransferMark | null, place: string): void => {
  if (mark === null || mark.state === 'arrived') return;
  if (mark.state === 'left') {
    throw new SluiceError('internal', `What was in ${place} moved to ${mark.to}.`, {
      fix: 'Serve that one; this one may be removed.',
    });
  }
  const [from, to] = 'to' in mark ? [place, mark.to] : [mark.from, place];
  throw new SluiceError('internal', `${place} is in the middle of a migration.`, {
    fix: `Finish it with \`sluice migrate --from ${from} --to ${to}\`, or give it up with --abandon as well.`,
  });
};

/** The mark of a migration to that place which was begun before, null where none was. @throws SluiceError */
export const leavingTo = (mark: TransferMark | null, place: string, to: string): LeavingMark | null => {
  if (mark === null || mark.state === 'arrived') return null;
  if ('from' in mark) {
    throw new SluiceError(
      'internal',
      `${place} is not whole: a migration from ${mark.from} into it was cut off.`,
      { fix: `Finish that one first: sluice migrate --from ${mark.from} --to ${place}` },
    );
  }
  if (mark.to === to) return mark;
  const verb = mark.state === 'left' ? 'moved' : 'is on its way';
  throw new SluiceError('internal', `What is in ${place} ${verb} to ${mark.to}.`, {
    fix: `Go on with --to ${mark.to}.`,
  });
};

/** @throws SluiceError where a target holds something, or gives the ids that the source gives */
export const refuseTaken = (place: string, why: string): never => {
  throw new SluiceError('internal', `${place} ${why}, and two stores are never mixed.`, {
    fix: 'Give an empty one.',
  });
};
