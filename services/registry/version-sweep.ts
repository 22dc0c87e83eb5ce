/** Superseded versions of functions go, so that deploys may go on for ever, and every process reads few of them. */
import type { FunctionRecord } from '../../shared/domain/function.ts';
import type { Registry } from '../../shared/store/ports/registry.ts';

/** The newest of each function stay, for people who look back, and for `repin`. */
const NEWEST_KEPT = 20;
/** A process that has not heard of a deploy yet may still admit calls to the version before: for seconds. */
const UNUSED_MS = 3_600_000;

export type VersionSweepOptions = {
  readonly registry: Registry;
  /** Digests of versions that groups run, or may go back to. */
  readonly kept: ReadonlySet<string>;
  readonly now: number;
};

/** Says how many went. What calls wait for, and what results are readable of, the store itself keeps. */
export const sweepVersions = async ({ registry, kept, now }: VersionSweepOptions): Promise<number> => {
  let gone = 0;
  for (const record of await registry.functions()) {
    const digests = supersededOf(record).filter((digest) => !kept.has(digest));
    if (digests.length === 0) continue;
    gone += (await registry.retire({ now, name: record.name, digests, unusedMs: UNUSED_MS })).length;
  }
  return gone;
};

const supersededOf = ({ versions, current, staged }: FunctionRecord): readonly string[] =>
  versions
    .toSorted((a, b) => b.createdAt - a.createdAt)
    .slice(NEWEST_KEPT)
    .flatMap(({ id, digest }) => (id === current.id || id === staged?.id ? [] : [digest]));
