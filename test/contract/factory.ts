/** What a store's own test file gives to the contract: how to make one, and the data in which stores differ. */
import type { EmbeddedOptions, StoreServer } from '../../shared/store/ports/server.ts';

export type StoreLimits = Omit<EmbeddedOptions, 'directory' | 'durability'>;

export const LIMITS: StoreLimits = {
  limitBytes: 2 ** 33,
  reserveBytes: 0,
  queueRowsMax: 10_000_000,
  queueBytesMax: 2 ** 33,
  retentionMs: 3_600_000,
  acknowledgedRetentionMs: 60_000,
};

/** One store's data, opened as often as a test likes. */
export type StoreHome = {
  /** Opens the data; whatever was open before is closed by the test. */
  open(overrides?: Partial<StoreLimits>): Promise<StoreServer>;
  /** Removes the data. */
  remove(): Promise<void>;
};

export type StoreCapabilities = {
  /** What `durability` says. */
  readonly durability: string;
  /** Whether a lease outlives the server that gave it. */
  readonly keepsLeases: boolean;
  /** Whether a limit on bytes refuses with disk_full. */
  readonly limitsBytes: boolean;
  /** Bytes are uploaded before their verb runs: verbs of one tick may overtake each other, and `usage` leaves them out. */
  readonly uploads?: boolean;
};

export type StoreFactory = {
  readonly name: string;
  readonly capabilities: StoreCapabilities;
  home(): Promise<StoreHome>;
};

/** Of a random test: where each call and output is an upload, most runs would only wait for one more. */
export const runsOf = ({ capabilities }: StoreFactory, numRuns: number): number =>
  capabilities.uploads === true ? Math.ceil(numRuns / 3) : numRuns;
