/**
 * Which version of a function has its replicas up where the machine cannot hold those of two at once.
 *
 *   wanted ─ room beside the others ─────────────────────────► up
 *      └─ no room ─► blocked ─ the holders have yielded ─► up
 *
 * A holder finishes its running batches and stops: at once for a version that was just deployed in its place, else when
 * it has nothing to do, cannot start, or has had its turn. So the backlog of an old version and the calls to the new one
 * take turns, and neither waits for ever.
 */
import type { MachineRoom, Share } from './machine-room.ts';
import type { VersionRunner } from './version-runner.ts';

/** Long against the load of a model, which each change costs, and short enough for a caller who waits. */
const TURN_MS = 60_000;

export type TurnTaker = {
  readonly runner: VersionRunner;
  /** `staged`: it starts beside the current one, and takes its place when it is ready; `old`: it was current. */
  role: 'current' | 'staged' | 'old';
  /** Replicas that it is to have here while it is up. */
  goal: number;
  /** It became current, or was staged, and has had no replicas since: those of other versions make room at once. */
  takesOver: boolean;
  /** What stands in the way of its replicas, in words; null when nothing does. */
  blocked: string | null;
  /** Since when it is ready; null while it is not. */
  servesSince: number | null;
  /** The stop of its replicas; null when none is under way. */
  resting: Promise<void> | null;
};

const shareOf = (taker: TurnTaker): Share => ({
  version: taker.runner.version,
  replicas: Math.max(taker.runner.replicas.length, taker.resting ? taker.goal : 0),
});

/** The other versions of its function that have replicas, or still stop them. */
export const holdersBeside = <T extends TurnTaker>(taker: T, all: Iterable<T>): T[] =>
  [...all].filter(
    (other) =>
      other !== taker &&
      other.runner.version.spec.name === taker.runner.version.spec.name &&
      (other.runner.replicas.length > 0 || other.resting !== null),
  );

/** Why its replicas cannot be started now; null when they can. */
export const clashOf = (
  taker: TurnTaker,
  holders: readonly TurnTaker[],
  room: Pick<MachineRoom, 'clash'>,
): string | null => {
  const wanted = { version: taker.runner.version, replicas: taker.goal };
  return room.clash(wanted, holders.map(shareOf));
};

/** Whether a holder that is not asked to yield at once has had what is due to it. */
export const hasHadTurn = (
  { runner, role, servesSince }: TurnTaker,
  { hasWork, now }: { readonly hasWork: boolean; readonly now: number },
): boolean => {
  // It is about to take over, or to be dropped: whoever staged it decides, within its own time.
  if (role === 'staged') return false;
  // A start may load a model: who was let in gets as far as being ready, or failed.
  if (servesSince === null) return runner.replicas.some(({ state }) => state === 'failed');
  return !hasWork || now - servesSince >= TURN_MS;
};
