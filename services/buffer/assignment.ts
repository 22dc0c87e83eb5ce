/**
 * Which member of the buffers shall own a function: rendezvous hashing (Thaler and Ravishankar, 1998). Every member
 * computes the same answer from the same list without talking, and one that comes or goes moves only its own share.
 */
import { createHash } from 'node:crypto';

/** 48 bits of a digest: exact as a number, and ties are for the ids to decide. */
const scoreOf = (functionName: string, memberId: string): number =>
  createHash('sha1').update(`${functionName}\0${memberId}`).digest().readUIntBE(0, 6);

/** The member with the highest score; null when there are no members. */
export const assignedMember = (functionName: string, members: readonly string[]): string | null => {
  let [best, bestScore] = [null as string | null, -1];
  for (const member of members) {
    const score = scoreOf(functionName, member);
    if (score > bestScore || (score === bestScore && best !== null && member < best))
      [best, bestScore] = [member, score];
  }
  return best;
};
