/** Functions and their versions. Versions are content-addressed and immutable but for live batching updates. */
import type { RowCounts } from '../../domain/call.ts';
import type {
  Batching,
  FunctionRecord,
  FunctionSpec,
  ReplicaReport,
  SourceFile,
} from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';

export type DeployAnswer = { readonly record: FunctionRecord; readonly created: boolean };

export type FunctionUpdate = {
  readonly batching?: Partial<Batching>;
  readonly paused?: boolean;
  readonly scaling?: Scaling;
};

/** Counters kept at commit, never by scanning. */
export type FunctionLoad = {
  readonly functionName: string;
  readonly waitingRows: number;
  readonly sealedRows: number;
  readonly waitingCalls: number;
  /** Rows that ended, by outcome: since the server's start, or where processes share a store since the function's first. */
  readonly endedRows: RowCounts;
  /** Arrival of the oldest waiting row, null when none waits. */
  readonly oldestAt: number | null;
  /** Whose it is. */
  readonly oldestVersionId: number | null;
  /** Versions with sealed batches, delayed ones among them, in no order. */
  readonly sealedVersions: readonly number[];
};

/** One line that a handler process printed; the newest 1,000 of each function are kept, in memory. */
export type LogLine = {
  readonly at: number;
  readonly functionName: string;
  readonly replica: number;
  readonly stream: 'stdout' | 'stderr';
  readonly text: string;
};

export interface Registry {
  /**
   * The same spec again makes no new version. `isStaged`: it is not current yet, its replicas start beside those of the
   * current one; it takes the place of a version that was staged before, and is current at once where there is none, or
   * where it is current already. `scaling`: of the function; left out, what it had stays.
   */
  deploy(query: {
    readonly now: number;
    readonly spec: FunctionSpec;
    readonly isStaged?: boolean;
    readonly scaling?: Scaling | null;
  }): Promise<DeployAnswer>;
  /**
   * Ends the wait of a staged version: it becomes current, or it is dropped and the current one stays.
   * @returns false when this version is not the staged one (any more)
   */
  settleStaged(query: {
    readonly now: number;
    readonly name: string;
    readonly digest: string;
    readonly end: 'activate' | 'drop';
  }): Promise<boolean>;
  /** Records are without source, in every answer: many versions of many megabytes would make each reading one of gigabytes. */
  functions(): Promise<readonly FunctionRecord[]>;
  function(name: string): Promise<FunctionRecord | undefined>;
  /** The source of one version; undefined when it is gone. */
  source(versionId: number): Promise<readonly SourceFile[] | undefined>;
  update(query: {
    readonly now: number;
    readonly name: string;
    readonly update: FunctionUpdate;
  }): Promise<FunctionRecord | undefined>;
  /** Refused with `function_busy` while calls of it are unfinished. */
  remove(name: string): Promise<boolean>;
  /** Moves waiting calls from one version (digest) to another with the same schemas; returns how many calls moved. */
  repin(query: {
    readonly now: number;
    readonly name: string;
    readonly from: string;
    readonly to: string;
  }): Promise<number>;
  /**
   * Drops those of these versions that nothing needs: neither current nor staged, no unfinished calls, and no readable result
   * for `unusedMs`. A version is noted when it is asked about first, and goes when it is asked about again after all that.
   * @returns the digests that went
   */
  retire(query: {
    readonly now: number;
    readonly name: string;
    readonly digests: readonly string[];
    readonly unusedMs: number;
  }): Promise<readonly string[]>;
  /** Takes the place of what this worker told of this version; one whose `until` is not after `now` only takes it away. */
  report(query: { readonly now: number; readonly report: ReplicaReport }): Promise<void>;
  /** Of every version and worker, but for those whose `until` has passed. */
  reports(query: { readonly now: number; readonly name: string }): Promise<readonly ReplicaReport[]>;
  load(): Promise<readonly FunctionLoad[]>;
  /** That of one function: a change of one shall not cost as much as there are others. */
  loadOf(name: string): Promise<FunctionLoad | undefined>;
  appendLogs(lines: readonly LogLine[]): Promise<void>;
  /** Oldest first. */
  logs(query: { readonly name: string; readonly limit: number }): Promise<readonly LogLine[]>;
}
