import type { Store } from './store.ts';

/** A store that this process opened. Threads of the process attach with a ticket; the opener closes it last. */
export interface StoreServer {
  /** A client for the calling thread. */
  connect(): Store;
  /** What another thread needs for `attachStore`: pass `data` in a message or workerData with `transfer` as its transfer list. */
  ticket(): {
    readonly data: unknown;
    readonly transfer: readonly import('node:worker_threads').Transferable[];
  };
  /** Finishes what is committing, closes files, lets the lock go. Safe to call twice. */
  close(): Promise<void>;
}

export type EmbeddedOptions = {
  /** Data directory; made when it is not there; one process owns it. */
  readonly directory: string;
  /** `memory`: no fsync, said in every call's durability. */
  readonly durability: 'fsync' | 'memory';
  readonly limitBytes: number;
  /** Free bytes on the file system below which admission is refused. */
  readonly reserveBytes: number;
  readonly queueRowsMax: number;
  readonly queueBytesMax: number;
  readonly retentionMs: number;
  readonly acknowledgedRetentionMs: number;
};

/** A bucket for large payloads and outputs, beside a store in Redis. Credentials are those of the environment. */
export type BucketOptions = {
  readonly name: string;
  /** http(s)://HOST:PORT of an S3-compatible server; '': that of AWS in the region. */
  readonly endpoint: string;
  readonly region: string;
  /** What every object's name begins with. */
  readonly prefix: string;
  /** Payloads and outputs from this size on lie in the bucket. */
  readonly thresholdBytes: number;
};

export type RedisOptions = {
  /** redis://, rediss://, redis+sentinel:// or redis+cluster:// (shared/store/redis/address.ts). */
  readonly url: string;
  /** What every key begins with: stores of other prefixes share the server. */
  readonly prefix: string;
  readonly queueRowsMax: number;
  readonly queueBytesMax: number;
  readonly retentionMs: number;
  readonly acknowledgedRetentionMs: number;
  /** How long workers may be silent: clocks must agree within a part of it. Left out: long. */
  readonly leaseMs?: number;
  /** Replicas whose disks confirm each admission before it is answered (Redis 7.2); null: nobody is waited for. */
  readonly waitReplicas: number | null;
  /** null, or left out: everything lies in Redis. */
  readonly bucket?: BucketOptions | null;
  /** Told in one sentence each what may lose accepted calls. */
  readonly onWarning: (sentence: string) => void;
};
