/**
 * The port of back ends: what a replica runs as. The worker host decides when a replica starts, gets a batch and stops;
 * a back end makes a handler of it: a child process, a container, a pod that is there already.
 */
import type { FunctionVersion } from '../shared/domain/function.ts';
import type { ModelBinding } from '../shared/domain/model.ts';
import type { Scaling } from '../shared/domain/scaling.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Artifacts } from '../shared/store/ports/artifacts.ts';
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
  /**
   * Tells, whenever it changes, why it takes no batches, or null: it takes them. What it is given meanwhile is unstarted. Left out:
   * it takes them from `ready` to its end.
   */
  onService?(listener: (reason: string | null) => void): void;
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
  /** Aborted when the replica is not wanted any more: what is still being prepared for it alone ends. */
  readonly signal: AbortSignal;
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
  /**
   * Called while the last batches still run: ends what is being prepared (an environment's build takes minutes) at once,
   * and takes away what replicas share when the last of them is gone.
   */
  stop(): Promise<void>;
}

/** What a back end is made with. */
export type BackendOptions = {
  readonly log: Log;
  readonly workerId: string;
  /** Variables of our own environment. What a handler gets of them is the back end's choice, and little. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where the files of models lie; null: this worker has none, and a version with files cannot start here. */
  readonly artifacts: Artifacts | null;
  /** The same files as directories, shared by all back ends of this machine. */
  readonly models: ModelFolders;
  readonly machine: Machine;
  /** Ids of the live workers that can run a version, this one's among them once it has reported, in no order. */
  readonly peers: (version: FunctionVersion) => Promise<readonly string[]>;
};

/** Made when the first version asks for it; rejects with the reason why this worker cannot have it. */
export type BackendFactory = (options: BackendOptions) => Promise<Backend>;

/** What replicas on this machine share. */
export type Machine = {
  readonly gpus: number;
  /** Models of its devices as the driver tells them; empty where nothing does. */
  readonly gpuNames?: readonly string[];
  /** Of this machine, or of the container that this process is in. */
  readonly memoryBytes: number;
};

/** A model version's files as a read-only directory tree of this machine. */
export interface ModelFolders {
  /** One folder for all who ask for the same files; it stays until the last of them has given it back. */
  take(model: ModelBinding, signal: AbortSignal): Promise<ModelFolder>;
}

export type ModelFolder = {
  /** Absolute. */
  readonly directory: string;
  /** Safe to call twice. */
  giveBack(): void;
};

export type Followed = {
  rescale(scaling: Scaling): void;
  /** Takes the version away from where it ran; `keep`: only this worker leaves. */
  end(how: 'remove' | 'keep'): Promise<void>;
};
