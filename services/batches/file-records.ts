/**
 * Files of OpenAI's API, as documents: `openai-file` under its owner, newest first. An uploaded file is one artifact; what a
 * batch wrote is many, each named by an `openai-part` under the file's id and the number of its first line.
 */
import { randomBytes } from 'node:crypto';
import type { Digest } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { allDocuments, changeDocument } from '../registry/documents.ts';

export type FileRecord = {
  readonly id: string;
  /** The API key's number. */
  readonly owner: number;
  readonly filename: string;
  readonly purpose: 'batch' | 'batch_output';
  readonly bytes: number;
  /** null: its parts have them. */
  readonly digest: Digest | null;
  readonly createdAt: number;
  readonly expiresAt: number | null;
};

export type PartRecord = { readonly digest: Digest; readonly bytes: number; readonly createdAt: number };

/** Of one key; each is a document that lists go over. */
const FILES_MAX = 10_000;
const LINE_DIGITS = 12;
/** Beyond the year 2248: what is taken from it makes newer ids sort first. */
const TIME_END = 2 ** 43;

export type Owner = { readonly id: number; readonly isAdmin: boolean };

/** `file-2-hvk3…`: of the key 2, sorted by time, and not to be guessed. */
export const newId = (kind: 'file' | 'batch', owner: number, now: number): string => {
  const time = (TIME_END - now).toString(36).padStart(9, '0');
  const separator = kind === 'file' ? '-' : '_';
  return `${kind}${separator}${owner.toString(36)}${separator}${time}${randomBytes(9).toString('hex')}`;
};

const ID = /^(?:file-([0-9a-z]{1,11})-|batch_([0-9a-z]{1,11})_)[0-9a-z]{27}$/;

/** Where its document lies; null: no id, or another key's. */
export const ownKey = (id: string, { id: caller, isAdmin }: Owner): string | null => {
  const found = ID.exec(id);
  if (found === null) return null;
  const owner = Number.parseInt((found[1] ?? found[2])!, 36);
  return owner === caller || isAdmin ? `${owner}/${id}` : null;
};

const notFound = (kind: 'file' | 'batch', id: string): SluiceError =>
  new SluiceError('not_found', `There is no ${kind} ${JSON.stringify(id.slice(0, 128))}.`, { field: 'id' });

/** @throws SluiceError `not_found`, also for another key's */
export const readOwn = async <T>(
  documents: Documents,
  kind: 'file' | 'batch',
  id: string,
  owner: Owner,
): Promise<T> => {
  const key = ownKey(id, owner);
  const found = key === null ? undefined : await documents.get(`openai-${kind}`, key);
  if (found === undefined) throw notFound(kind, id);
  return found.value as T;
};

export type Page<T> = { readonly entries: readonly T[]; readonly hasMore: boolean };
export type PageQuery<T> = {
  readonly after: string | null;
  readonly limit: number;
  readonly isWanted?: (value: T) => boolean;
  readonly isOldestFirst?: boolean;
};

/** A page may begin after what was deleted since; after no id of the key's own it would be empty, as if it were the last. */
const checkAfter = (kind: 'file' | 'batch', after: string, owner: number): void => {
  if (after.startsWith(kind) && ownKey(after, { id: owner, isAdmin: false }) !== null) return;
  throw new SluiceError(
    'invalid_request',
    `after is ${JSON.stringify(after.slice(0, 128))}; give the id of a ${kind}, such as last_id of an earlier page.`,
    { field: 'after' },
  );
};

/**
 * A page of a key's own, newest first unless it says otherwise.
 * @throws SluiceError `invalid_request` where `after` is no id
 */
export const listOwn = async <T extends { readonly id: string }>(
  documents: Documents,
  kind: 'file' | 'batch',
  owner: number,
  { after, limit, isWanted = () => true, isOldestFirst = false }: PageQuery<T>,
): Promise<Page<T>> => {
  if (after !== null) checkAfter(kind, after, owner);
  const entries: T[] = [];
  const prefix = `${owner}/`;
  const begin = after === null || isOldestFirst ? prefix : `${prefix}${after}`;
  for await (const { key, value } of allDocuments<T>(documents, `openai-${kind}`, { after: begin })) {
    if (!key.startsWith(prefix)) break;
    if (!isWanted(value)) continue;
    entries.push(value);
    if (!isOldestFirst && entries.length > limit) break;
  }
  if (isOldestFirst) {
    entries.reverse();
    const at = after === null ? 0 : entries.findIndex(({ id }) => id < after);
    entries.splice(0, at < 0 ? entries.length : at);
  }
  return { entries: entries.slice(0, limit), hasMore: entries.length > limit };
};

export const partKey = (fileId: string, line: number): string =>
  `${fileId}/${String(line).padStart(LINE_DIGITS, '0')}`;

export class Files {
  readonly #documents: Documents;
  readonly #artifacts: Artifacts;

  constructor(documents: Documents, artifacts: Artifacts) {
    this.#documents = documents;
    this.#artifacts = artifacts;
  }

  /** @throws SluiceError `invalid_request` when the key has as many as it may */
  async checkRoom(owner: number): Promise<void> {
    let count = 0;
    for await (const { key } of allDocuments(this.#documents, 'openai-file', {
      after: `${owner}/`,
      page: 1000,
    })) {
      if (!key.startsWith(`${owner}/`)) return;
      count += 1;
      if (count < FILES_MAX) continue;
      throw new SluiceError(
        'invalid_request',
        `The key has ${count} files, the most it may have; delete some.`,
        {
          field: 'file',
        },
      );
    }
  }

  /** Writes its document where there is none: what runs again after a crash finds it. */
  async put(record: FileRecord): Promise<void> {
    const key = `${record.owner}/${record.id}`;
    await this.#documents.put({ kind: 'openai-file', key, revision: null, value: record });
  }

  /** @throws SluiceError `not_found`, also when it is past its time */
  async find(id: string, owner: Owner, now: number): Promise<FileRecord> {
    const record = await readOwn<FileRecord>(this.#documents, 'file', id, owner);
    if (record.expiresAt !== null && record.expiresAt <= now) throw notFound('file', id);
    return record;
  }

  list(owner: number, query: PageQuery<FileRecord>, now: number): Promise<Page<FileRecord>> {
    const isWanted = (record: FileRecord): boolean =>
      (record.expiresAt === null || record.expiresAt > now) && (query.isWanted?.(record) ?? true);
    return listOwn(this.#documents, 'file', owner, { ...query, isWanted });
  }

  async remove(record: FileRecord): Promise<void> {
    const key = `${record.owner}/${record.id}`;
    await changeDocument(this.#documents, 'openai-file', key, () => ({ write: null, answer: null }));
    if (record.digest === null) await this.removeParts(record.id);
  }

  async removeParts(fileId: string): Promise<void> {
    for await (const { key } of this.#parts(fileId))
      await changeDocument(this.#documents, 'openai-part', key, () => ({ write: null, answer: null }));
  }

  async *#parts(fileId: string): AsyncGenerator<{ readonly key: string; readonly value: PartRecord }> {
    const prefix = `${fileId}/`;
    for await (const part of allDocuments<PartRecord>(this.#documents, 'openai-part', { after: prefix })) {
      if (!part.key.startsWith(prefix)) return;
      yield part;
    }
  }

  /** Its bytes from the first on. */
  async *content(record: FileRecord): AsyncGenerator<Uint8Array> {
    if (record.digest !== null) {
      yield* (await this.#artifacts.read({ digest: record.digest })).body;
      return;
    }
    for await (const { value } of this.#parts(record.id))
      yield* (await this.#artifacts.read({ digest: value.digest })).body;
  }
}

export const presentFile = (record: FileRecord) => ({
  id: record.id,
  object: 'file' as const,
  bytes: record.bytes,
  created_at: Math.floor(record.createdAt / 1000),
  expires_at: record.expiresAt === null ? null : Math.floor(record.expiresAt / 1000),
  filename: record.filename,
  purpose: record.purpose,
  status: 'processed' as const,
});
