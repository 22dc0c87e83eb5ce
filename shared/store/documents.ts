/** The documents port over what a store keeps: bytes of JSON. What may be asked is checked here, the same for every store. */
import { SluiceError } from '../errors/sluice-error.ts';
import {
  DOCUMENT_BYTES_MAX,
  DOCUMENT_KEY_MAX,
  DOCUMENT_KINDS,
  DOCUMENTS_LISTED_MAX,
  type DocumentKind,
  type Documents,
  type StoredDocument,
} from './ports/documents.ts';

export type DocumentName = { readonly kind: DocumentKind; readonly key: string };
export type StoredBytes = { readonly key: string; readonly revision: number; readonly bytes: Uint8Array };
export type DocumentsQuery = {
  readonly kind: DocumentKind;
  readonly prefix: string;
  /** '': from the first on. */
  readonly after: string;
  readonly limit: number;
};

export type DocumentsPage = { readonly documents: readonly StoredBytes[]; readonly next: string | null };

/** Keys are of characters whose order is the same in JavaScript, SQLite and Redis, all of them before `~`. */
export interface DocumentBytes {
  get(name: DocumentName): Promise<Omit<StoredBytes, 'key'> | undefined>;
  /** `next`: where to go on, null after the last. It may hold fewer than `limit`: what went while it was read is left out. */
  page(query: DocumentsQuery): Promise<DocumentsPage>;
  put(
    document: DocumentName & { readonly revision: number | null; readonly bytes: Uint8Array },
  ): Promise<number | null>;
  remove(document: DocumentName & { readonly revision: number }): Promise<boolean>;
}

const KEY = /^[A-Za-z0-9_.\-/:]*$/;

const refuse = (field: string, value: unknown, wanted: string): never => {
  const shown = JSON.stringify(value)?.slice(0, 100) ?? String(value);
  throw new SluiceError('invalid_request', `${field} of a document is ${shown}; give ${wanted}.`, { field });
};

const checkKind = (kind: string): void => {
  if (!(DOCUMENT_KINDS as readonly string[]).includes(kind))
    refuse('kind', kind, `one of ${DOCUMENT_KINDS.join(', ')}`);
};

const checkText = (field: string, text: string, bytesMin: number): void => {
  if (
    typeof text === 'string' &&
    KEY.test(text) &&
    text.length >= bytesMin &&
    text.length <= DOCUMENT_KEY_MAX
  )
    return;
  refuse(field, text, `${bytesMin} to ${DOCUMENT_KEY_MAX} letters, digits and _.-/:`);
};

const checkName = ({ kind, key }: DocumentName): void => {
  checkKind(kind);
  checkText('key', key, 1);
};

const checkRevision = (revision: number): void => {
  if (!Number.isSafeInteger(revision) || revision < 1)
    refuse('revision', revision, 'the one that was read with it');
};

const encode = ({ kind, key }: DocumentName, value: unknown): Uint8Array => {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) return refuse('value', value, 'what JSON has');
  const bytes = Buffer.from(text);
  if (bytes.byteLength > DOCUMENT_BYTES_MAX)
    throw new SluiceError(
      'payload_too_large',
      `The ${kind} "${key}" is ${bytes.byteLength} bytes of JSON, the limit is ${DOCUMENT_BYTES_MAX}; keep large files as artifacts.`,
      { field: 'value' },
    );
  return bytes;
};

const decode = ({ key, revision, bytes }: StoredBytes): StoredDocument => {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  return { key, revision, value: JSON.parse(text) as unknown };
};

export const makeDocuments = (store: DocumentBytes): Documents => ({
  get: async (kind, key) => {
    checkName({ kind, key });
    const found = await store.get({ kind, key });
    return found && decode({ key, ...found });
  },
  list: async ({ kind, prefix = '', after = '', limit }) => {
    checkKind(kind);
    checkText('prefix', prefix, 0);
    checkText('after', after, 0);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > DOCUMENTS_LISTED_MAX)
      refuse('limit', limit, `1 to ${DOCUMENTS_LISTED_MAX}`);
    const found: StoredDocument[] = [];
    for (let from: string | null = after; from !== null && found.length < limit; ) {
      const page: DocumentsPage = await store.page({
        kind,
        prefix,
        after: from,
        limit: limit - found.length,
      });
      found.push(...page.documents.map(decode));
      from = page.next;
    }
    return found;
  },
  put: async ({ kind, key, revision, value }) => {
    checkName({ kind, key });
    if (revision !== null) checkRevision(revision);
    return store.put({ kind, key, revision, bytes: encode({ kind, key }, value) });
  },
  remove: async ({ kind, key, revision }) => {
    checkName({ kind, key });
    checkRevision(revision);
    return store.remove({ kind, key, revision });
  },
});
