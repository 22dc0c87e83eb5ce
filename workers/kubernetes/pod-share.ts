/**
 * Which worker serves which pod: rendezvous hashing, so that all workers compute the same answer from the same list and
 * one that comes or goes moves only its own share. Where two lists differ for a moment a pod has two workers or none,
 * which costs no row: a pod takes batches of several connections.
 */
import { createHash } from 'node:crypto';

/** 48 bits of a digest: exact as a number. */
const scoreOf = (podUid: string, workerId: string): number =>
  createHash('sha1').update(`${podUid}\0${workerId}`).digest().readUIntBE(0, 6);

/** Ids of the pods that `workerId` serves. It counts itself among the workers, whether the list has it or not. */
export const podShare = (
  pods: readonly string[],
  workerId: string,
  workers: readonly string[],
): ReadonlySet<string> => {
  const all = [...new Set([...workers, workerId])].toSorted();
  const best = (pod: string): string => {
    let [found, foundScore] = ['', -1];
    for (const worker of all) {
      const score = scoreOf(pod, worker);
      if (score > foundScore) [found, foundScore] = [worker, score];
    }
    return found;
  };
  return new Set(pods.filter((pod) => best(pod) === workerId));
};
