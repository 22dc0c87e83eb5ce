/**
 * Documents on Redis: one script changes a document with the index, since both lie in the slot of what is of no function.
 * Only a script's share of the bytes goes through it: a large document is set in parts, each with a time to live, and the
 * script makes them stay. Parts are never written again, so that a reader who finds one gone reads the document anew.
 */
import { randomUUID } from 'node:crypto';
import { SluiceError } from '../../errors/sluice-error.ts';
import type {
  DocumentBytes,
  DocumentName,
  DocumentsPage,
  DocumentsQuery,
  StoredBytes,
} from '../documents.ts';
import type { Layout } from './layout.ts';
import type { Link } from './link.ts';
import { dataLost } from './replies.ts';

export type DocumentsPlace = {
  readonly link: Link;
  readonly layout: Layout;
  readonly generation: string;
  /** Refuses large bytes while the server is nearly full. */
  readonly checkRoom?: (bytes: number) => void;
};

/** A script hashes every byte that it is given; below this that costs less than another command. */
const INLINE_BYTES_MAX = 32 * 1024;
/** Some milliseconds of the server, in which all others wait. */
const PART_BYTES = 2 ** 20;
/** Long enough to upload the rest over a slow line; a crash leaves parts for no longer. */
const PART_TTL_MS = 600_000;
/** Documents that one page reads at a time. */
const READS = 16;

type Found = Omit<StoredBytes, 'key'>;
type Fields = readonly [Buffer | null, Buffer | null, Buffer | null, Buffer | null];

export const nameOf = ({ kind, key }: DocumentName): string => `${kind}/${key}`;

const readParts = async ({ link, layout }: DocumentsPlace, name: string, count: number) => {
  const parts: Buffer[] = [];
  for (let part = 0; part < count; part += 1) {
    const bytes = await link.command<Buffer | null>('GET', layout.documentPart(name, part));
    if (bytes === null) return null;
    parts.push(bytes);
  }
  return Buffer.concat(parts);
};

/** @throws SluiceError `data_lost`, `store_unavailable` */
export const readDocument = async (place: DocumentsPlace, name: string): Promise<Found | undefined> => {
  const { link, layout, generation } = place;
  // Each further round means that another one was written meanwhile, or that the store was emptied.
  for (;;) {
    const [fields, found] = await Promise.all([
      link.command<Fields>('HMGET', layout.document(name), 'r', 'v', 'p', 'n'),
      link.command<Buffer | null>('GET', layout.store('generation')),
    ]);
    if (String(found) !== generation) throw dataLost('its generation is another');
    const [revision, value, parts, count] = fields;
    if (revision === null) return undefined;
    const bytes = value ?? (await readParts(place, String(parts), Number(count)));
    if (bytes !== null) return { revision: Number(revision), bytes };
  }
};

const setParts = async ({ link, layout }: DocumentsPlace, name: string, bytes: Uint8Array) => {
  const count = Math.ceil(bytes.byteLength / PART_BYTES);
  for (let part = 0; part < count; part += 1) {
    const some = bytes.subarray(part * PART_BYTES, (part + 1) * PART_BYTES);
    await link.command('SET', layout.documentPart(name, part), some, 'PX', PART_TTL_MS);
  }
  return { name, count, keys: Array.from({ length: count }, (_, part) => layout.documentPart(name, part)) };
};

/** null: it has another revision now. */
const put = async (
  place: DocumentsPlace,
  document: Parameters<DocumentBytes['put']>[0],
): Promise<number | null> => {
  const { revision, bytes } = document;
  const isInline = bytes.byteLength <= INLINE_BYTES_MAX;
  if (!isInline) place.checkRoom?.(bytes.byteLength);
  const parts = isInline ? null : await setParts(place, randomUUID(), bytes);
  const args = [
    nameOf(document),
    bytes.byteLength,
    isInline ? bytes : '',
    parts?.name ?? '',
    parts?.count ?? 0,
  ];
  const given = await runDocument<number>(
    place,
    'document-put',
    document,
    ['document-revisions'],
    [revision ?? '', ...args],
  );
  if (given > 0) return given;
  // They would go by themselves in a while.
  if (parts !== null) await place.link.command('UNLINK', ...parts.keys);
  if (given === 0) return null;
  throw new SluiceError(
    'store_unavailable',
    `The ${document.kind} "${document.key}" took longer than ${PART_TTL_MS / 60_000} minutes to write; write it again.`,
    { retry_after_seconds: 2 },
  );
};

const runDocument = <T>(
  { link, layout, generation }: DocumentsPlace,
  script: string,
  name: DocumentName,
  more: readonly 'document-revisions'[],
  args: readonly (string | number | Uint8Array)[],
): Promise<T> => {
  const keys = [layout.store('generation'), layout.store('documents'), layout.document(nameOf(name))];
  return link.run<T>(script, [...keys, ...more.map((key) => layout.store(key))], [generation, ...args]);
};

/** Names, ascending; `after` and `end` exclusive, `from` inclusive. */
export const documentNames = async (
  { link, layout, generation }: DocumentsPlace,
  range: { readonly from: string; readonly after: string; readonly end: string; readonly limit: number },
): Promise<readonly string[]> => {
  const begin = range.after >= range.from ? `(${range.after}` : `[${range.from}`;
  const keys = [layout.store('generation'), layout.store('documents')];
  const names = await link.run<Buffer[]>('documents', keys, [
    generation,
    begin,
    `(${range.end}`,
    range.limit,
  ]);
  return names.map(String);
};

const page = async (
  place: DocumentsPlace,
  { kind, prefix, after, limit }: DocumentsQuery,
): Promise<DocumentsPage> => {
  const [from, start] = [`${kind}/`.length, `${kind}/${prefix}`];
  const range = { from: start, after: after === '' ? '' : `${kind}/${after}`, end: `${start}~`, limit };
  const names = await documentNames(place, range);
  const documents: StoredBytes[] = [];
  for (let at = 0; at < names.length; at += READS) {
    const some = names.slice(at, at + READS);
    const found = await Promise.all(some.map((name) => readDocument(place, name)));
    found.forEach((one, index) => {
      if (one !== undefined) documents.push({ key: some[index]!.slice(from), ...one });
    });
  }
  return { documents, next: names.length < limit ? null : names.at(-1)!.slice(from) };
};

/** Names that one step of a migration reads. */
const STEP_NAMES = 500;

/** Every document's name, `KIND/KEY`. */
export async function* eachDocumentName(place: DocumentsPlace): AsyncGenerator<string> {
  for (let after = ''; ; ) {
    const names = await documentNames(place, { from: '', after, end: '~', limit: STEP_NAMES });
    yield* names;
    if (names.length < STEP_NAMES) return;
    after = names.at(-1)!;
  }
}

export const countDocuments = async (place: DocumentsPlace) => {
  const counts = { documents: 0, documentBytes: 0 };
  for await (const name of eachDocumentName(place)) {
    counts.documents += 1;
    const { link, layout } = place;
    counts.documentBytes += Number(await link.command<Buffer>('HGET', layout.document(name), 'b'));
  }
  return counts;
};

/** Writes one under a revision that it has elsewhere. Done again it writes the same keys. */
export const takeDocument = async (
  place: DocumentsPlace,
  name: string,
  { revision, bytes }: Found,
): Promise<void> => {
  const { link, layout } = place;
  const key = layout.document(name);
  const isInline = bytes.byteLength <= INLINE_BYTES_MAX;
  const parts = isInline ? null : await setParts(place, `moved-${revision}`, bytes);
  for (const part of parts?.keys ?? []) await link.command('PERSIST', part);
  const value = parts === null ? ['v', bytes] : ['p', parts.name, 'n', parts.count];
  await link.command('HSET', key, 'r', revision, 'b', bytes.byteLength, ...value);
  await link.command('ZADD', layout.store('documents'), 0, name);
};

export const makeDocumentBytes = (place: DocumentsPlace): DocumentBytes => ({
  get: (name) => readDocument(place, nameOf(name)),
  page: (query) => page(place, query),
  put: (document) => put(place, document),
  remove: async (document) => {
    const args = [document.revision, nameOf(document)];
    return (await runDocument<number>(place, 'document-remove', document, [], args)) === 1;
  },
});
