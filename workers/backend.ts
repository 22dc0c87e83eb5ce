/**
 * The port of back ends: what a replica runs as. The worker host decides when a replica starts, gets a batch and stops;
 * a back end makes a handler of it: a child process, a container, a pod that is there already.
 */
import type { FunctionVersion } from '../shared/domain/function.ts';
import type { Scaling } from '../shared/domain/scaling.ts';
import type { Handler } from './handler.ts';
import type { IgnoredOption } from './honoured-options.ts';

/** A started replica. */
export interface HandlerInstance extends Handler {
  /** Rejects with the reason when it cannot serve. */
  readonly ready: Promise<void>;
  /** Resolves with how it ended, after everything that it sent has been read. */
  readonly gone: Promise<string>;
  /** Process id, container name or pod name. */
  readonly place: string | null;
  /** Batches that wait for an answer. */
  readonly load: number;
  /** CPU milliseconds used since its start, and memory now; null where nobody knows. */
  usage(): Promise<{ readonly cpuMs: number; readonly memoryBytes: number } | null>;
  /** Ends it at once. `cause` is what its batch is told. */
  kill(cause: string): void;
  /** Lets it finish what runs and leave by itself, for `graceMs` at most. Resolves when it is gone. */
  stop(graceMs: number): Promise<void>;
}

export type LaunchRequest = {
  readonly version: FunctionVersion;
  readonly replica: number;
  /** Device ids of this machine that are the replica's own. */
  readonly devices: readonly number[];
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void;
};

export interface Backend {
  /** What of the version's options it cannot honour here. */
  ignored(version: FunctionVersion): readonly IgnoredOption[];
  /** Prepares and starts a replica; rejects with the reason why it cannot. */
  launch(request: LaunchRequest): Promise<HandlerInstance>;
  /**
   * Where something else decides how many replicas there are (a cluster's autoscaler): brings the version up there, and
   * tells how many of its replicas this worker is to serve, again whenever that changes. Left out: the host decides.
   */
  follow?(
    version: FunctionVersion,
    scaling: Scaling,
    onReplicas: (replicas: number) => void,
    onFailure: (reason: string) => void,
  ): Followed;
  /** Ends what is being prepared: an environment's build takes minutes. Then what it shared between replicas. */
  stop(): Promise<void>;
}

export type Followed = {
  rescale(scaling: Scaling): void;
  /** Takes the version away from where it ran; `keep`: only this worker leaves. */
  end(how: 'remove' | 'keep'): Promise<void>;
};
