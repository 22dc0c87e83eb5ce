/** The two ends of a group's removal: its document says `leavingAt` from the first step until one of them. */
import type { Documents } from '../../shared/store/ports/documents.ts';
import { removeDrift } from '../inferences/drift-records.ts';
import type { Claims } from './claims.ts';
import type { GroupRecords } from './group-records.ts';

type Rooms = { readonly records: GroupRecords; readonly claims: Claims; readonly documents: Documents };

/** The last steps, when its function has gone. */
export const forgetGroup = async ({ records, claims, documents }: Rooms, name: string): Promise<void> => {
  const gone = await records.change(name, (group) =>
    // It may have been made anew since then.
    group === undefined || group.leavingAt === null ? { answer: null } : { write: null, answer: group },
  );
  if (gone === null) return;
  await removeDrift(documents, name);
  for (const release of [gone.current, gone.next]) if (release !== null) await claims.free(release);
};

/** Takes back that it leaves, where it was said at `leavingAt`. */
export const keepGroup = (records: GroupRecords, name: string, leavingAt: number | null): Promise<null> =>
  records.change(name, (group) =>
    group?.leavingAt === leavingAt
      ? { write: { ...group!, leavingAt: null }, answer: null }
      : { answer: null },
  );
