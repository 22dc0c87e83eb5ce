/**
 * How the store's keys and ids are spelled (docs/decisions/0007): all keys of one function share the hash tag
 * `{prefix:12}`, so that one script touches one slot of a cluster; what is of no function lies at `{prefix}`.
 *
 *   callId, batchId = function × 2³⁹ + n          versionId = function × 2¹² + n          n from 1
 *
 * so a verb that is given only a call, a batch or a version knows its slot.
 */
import { BugError } from '../../errors/sluice-error.ts';

/** Functions are numbered from 1; every id is a safe integer, and the last of these names no function. */
export const FUNCTIONS_MAX = 2 ** 14 - 2;
/** Calls of one function, for ever: 17 years at 1,000 a second. */
export const SERIALS = 2 ** 39;
const VERSIONS = 2 ** 12;
/** Versions of one function, with those that went within a day: a deploy beyond it is refused. */
export const VERSIONS_MAX = VERSIONS - 1;

const pack = (fn: number, n: number, width: number): number => {
  if (!Number.isInteger(fn) || fn < 1 || fn > FUNCTIONS_MAX || !Number.isInteger(n) || n < 0 || n >= width)
    throw new BugError(`function ${fn} has no number ${n}`);
  return fn * width + n;
};

export const callIdOf = (fn: number, n: number): number => pack(fn, n, SERIALS);
export const batchIdOf = (fn: number, n: number): number => pack(fn, n, SERIALS);
export const versionIdOf = (fn: number, n: number): number => pack(fn, n, VERSIONS);

/** The function of a call or batch; 0 or a number above FUNCTIONS_MAX when the id was never given out. */
export const functionOfId = (id: number): number => Math.floor(id / SERIALS);
/** The number of a call or batch within its function. */
export const serialOfId = (id: number): number => id % SERIALS;
export const functionOfVersion = (versionId: number): number => Math.floor(versionId / VERSIONS);
export const serialOfVersion = (versionId: number): number => versionId % VERSIONS;
/** Whether a function number may stand in a key: ids come from outside, and an unknown one is only unknown. */
export const isFunctionNumber = (fn: number): boolean =>
  Number.isInteger(fn) && fn >= 1 && fn <= FUNCTIONS_MAX;

/** Calls of one bucket (a hash of neighbouring calls): listpack-encoded hashes hold up to 128 entries by default. */
export const BUCKET_CALLS = 128;
export const bucketOf = (serial: number): number => Math.floor(serial / BUCKET_CALLS);

/** Keys that belong to no function. */
export type StoreKey =
  /** Text: random, made once with SET NX; another one means that the data was replaced. */
  | 'generation'
  /** Counter: the highest function number. */
  | 'function-count'
  /** Hash: function name → number. */
  | 'functions'
  /** Counter, hash id → JSON, hash secret hash → id: the API keys. */
  | 'api-key-count'
  | 'api-keys'
  | 'api-key-hashes'
  /** Sorted set of the documents' names, and the hash of the revision given last: scripts/document-put.lua. */
  | 'documents'
  | 'document-revisions'
  /** Sorted set: buffer process → when its membership ends. */
  | 'members'
  /** Text, JSON: the mark of a migration (shared/store/transfer-mark.ts). */
  | 'transfer'
  /** Text: the bucket in which large payloads and outputs lie; not there while there was none. */
  | 'bucket'
  /** Set: `TAG:CHUNK` of the texts that `former` names. */
  | 'former-chunks'
  /** Channel: a function's name, when it was deployed, changed or removed. */
  | 'functions-changed';

/** Channels of one function. Messages are hints that are safe to lose; none carries what is not also stored. */
export type FunctionChannel =
  /** To the buffer's owner: `waiting` (read the stream on), or `slots VERSION IDLE PREFETCH` (decimal version ids). */
  | 'owner'
  /** To worker hosts: the version id of batches that became ready, and how many, decimal. */
  | 'ready'
  /** To the owner and the hosts: ids of cancelled or expired calls, decimal, with blanks between. */
  | 'ended'
  /** To who watches calls: ids of calls that advanced or finished, decimal, with blanks between. */
  | 'calls';

export class Layout {
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  store(key: StoreKey): string {
    return `{${this.prefix}}:${key}`;
  }

  /** Seven bytes for each id that calls had elsewhere (transfer-lineage.ts), in texts of neighbouring ids. */
  former(chunk: string): string {
    return `{${this.prefix}}:former:${chunk}`;
  }

  /** A document; its name is `KIND/KEY`. */
  document(name: string): string {
    return `{${this.prefix}}:document:${name}`;
  }

  /** A part of a large document (scripts/parts/documents.lua spells it too). */
  documentPart(name: string, part: number): string {
    return `{${this.prefix}}:document-part:${name}:${part}`;
  }

  /** What all keys of a function begin with; scripts append to it. */
  base(fn: number): string {
    return `{${this.prefix}:${fn}}:`;
  }

  /** A key of a function: `{sluice:12}:waiting`, `{sluice:12}:calls:7`. Its name is explained where its scripts are. */
  key(fn: number, name: string, part?: number | string): string {
    return part === undefined ? `${this.base(fn)}${name}` : `${this.base(fn)}${name}:${part}`;
  }

  channel(fn: number, channel: FunctionChannel): string {
    return `${this.base(fn)}to-${channel}`;
  }

  /** The pattern of one channel of every function. */
  channels(channel: FunctionChannel): string {
    const prefix = this.prefix.replace(/[*?[\]\\^-]/g, '\\$&');
    return `{${prefix}:*}:to-${channel}`;
  }

  /** The prefix and the name of a version's BullMQ queue: BullMQ puts a colon between them. */
  bull(versionId: number): { readonly prefix: string; readonly name: string } {
    const fn = functionOfVersion(versionId);
    return { prefix: `{${this.prefix}:${fn}}:bull`, name: `v${versionId}` };
  }
}
