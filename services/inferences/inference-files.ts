/** The index of the inference store: documents `inference-file/GROUP/TIME-UUID`, by the time of each file's first row. */
import {
  INFERENCE_FLUSH_MS_MAX,
  type InferenceFile,
  inferenceFilePrefix,
  inferenceFileTime,
} from '../../shared/domain/inference.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';

/** `key` is that of the document without its group: what a list goes on after. */
export type ListedFile = { readonly key: string; readonly file: InferenceFile };

export type FilesQuery = {
  readonly group: string;
  /** Wall-clock milliseconds; files with rows at it or later. null: from the first on. */
  readonly from: number | null;
  /** Files with rows before it. null: up to now. */
  readonly until: number | null;
  readonly after: string | null;
  readonly limit: number;
};

export type FilesPage = { readonly files: readonly ListedFile[]; readonly next: string | null };

/** A timer may be late, and clocks are set. */
const LATE_MS = 300_000;
/** Documents of a file are small. */
const PAGE = 1000;

/** A page of the files whose rows overlap the time range, ascending. */
export const listInferenceFiles = async (documents: Documents, query: FilesQuery): Promise<FilesPage> => {
  const files: ListedFile[] = [];
  for await (const listed of inferenceFiles(documents, query)) {
    if (files.length === query.limit) return { files, next: files.at(-1)!.key };
    files.push(listed);
  }
  return { files, next: null };
};

/** All files of a group whose rows overlap the time range, ascending by their first rows. */
export async function* inferenceFiles(
  documents: Documents,
  { group, from, until, after }: Omit<FilesQuery, 'limit'>,
): AsyncGenerator<ListedFile> {
  const prefix = inferenceFilePrefix(group);
  // A file that began before the range may reach into it.
  const first = from === null ? '' : inferenceFileTime(from - INFERENCE_FLUSH_MS_MAX - LATE_MS);
  let last = `${prefix}${after !== null && after > first ? after : first}`;
  for (;;) {
    const page = await documents.list({ kind: 'inference-file', prefix, after: last, limit: PAGE });
    for (const { key, value } of page) {
      const file = value as InferenceFile;
      if (until !== null && file.from >= until) return;
      if (from === null || file.until >= from) yield { key: key.slice(prefix.length), file };
    }
    if (page.length < PAGE) return;
    last = page.at(-1)!.key;
  }
}
