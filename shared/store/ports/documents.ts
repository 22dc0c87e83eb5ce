/**
 * Small records that change seldom: models, their versions, scaling groups, engines. A document is JSON under a kind and a
 * key; every change names the revision that it was made from, so that two writers never overwrite each other unseen.
 */

/** What a document is about. New kinds are new words here. */
export const DOCUMENT_KINDS = [
  'model',
  'model-version',
  'scaling-group',
  'engine',
  'engine-version',
  'openai-file',
  'openai-part',
  'openai-batch',
  'openai-run',
  'inference-file',
  'drift',
  'sweep',
] as const;
export type DocumentKind = (typeof DOCUMENT_KINDS)[number];

/** A document of a registry holds source, not weights. */
export const DOCUMENT_BYTES_MAX = 96 * 2 ** 20;
/** Letters, digits and `_.-/:`, at most this many. */
export const DOCUMENT_KEY_MAX = 400;
/** Of one `list`; go on after the last key for more. */
export const DOCUMENTS_LISTED_MAX = 1000;

export type StoredDocument = {
  readonly key: string;
  /** Raised by each change, never given twice to one key, also when it was removed in between. */
  readonly revision: number;
  readonly value: unknown;
};

/** All verbs throw `invalid_request` for a kind, key, limit or revision that cannot be. */
export interface Documents {
  get(kind: DocumentKind, key: string): Promise<StoredDocument | undefined>;
  /**
   * By key, ascending, those whose key begins with `prefix` and comes after `after`; fewer than `limit` are the last.
   * What is there all the while is in it once; of what others write meanwhile it has the state before or after.
   */
  list(query: {
    readonly kind: DocumentKind;
    readonly prefix?: string;
    readonly after?: string;
    readonly limit: number;
  }): Promise<readonly StoredDocument[]>;
  /**
   * Writes it where it still has `revision`; null: where there is none. Durable when it resolves.
   * @returns the new revision; null when it has another one now: read again and decide again.
   * @throws SluiceError `payload_too_large`, `disk_full`, `memory_full`
   */
  put(query: {
    readonly kind: DocumentKind;
    readonly key: string;
    readonly revision: number | null;
    readonly value: unknown;
  }): Promise<number | null>;
  /** @returns false when it has another revision now, or is not there. */
  remove(query: {
    readonly kind: DocumentKind;
    readonly key: string;
    readonly revision: number;
  }): Promise<boolean>;
}
