/** Changing a document that others change as well: read, decide, write where it is still as it was read, else again. */
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { DocumentKind, Documents } from '../../shared/store/ports/documents.ts';

/** Each lost round is somebody else's won one: fifty writers of one document are through after so many. */
const ROUNDS_MAX = 60;
/** Lost rounds make writers wait a random time of up to this, so that they do not meet again. */
const PAUSE_MS_MAX = 40;

/** `write` null removes the document; left out, it stays as it is. */
export type Change<T, A> = { readonly write?: T | null; readonly answer: A };

/**
 * @param decide from what is there now (undefined: nothing); it may run several times, and may throw to refuse
 * @throws SluiceError `changed_meanwhile`
 */
export const changeDocument = async <T, A>(
  documents: Documents,
  kind: DocumentKind,
  key: string,
  decide: (value: T | undefined) => Change<T, A> | Promise<Change<T, A>>,
): Promise<A> => {
  for (let round = 1; round <= ROUNDS_MAX; round += 1) {
    const found = await documents.get(kind, key);
    const { write, answer } = await decide(found?.value as T | undefined);
    if (write === undefined || (write === null && found === undefined)) return answer;
    const isDone =
      write === null
        ? await documents.remove({ kind, key, revision: found!.revision })
        : (await documents.put({ kind, key, revision: found?.revision ?? null, value: write })) !== null;
    if (isDone) return answer;
    await pause(Math.random() * Math.min(2 * round, PAUSE_MS_MAX));
  }
  throw new SluiceError(
    'changed_meanwhile',
    `${kind} ${JSON.stringify(key)} is being changed by many at once.`,
  );
};

/** Documents of a page are read into memory together. */
const PAGE = 200;

export const allDocuments = async function* <T>(
  documents: Documents,
  kind: DocumentKind,
  {
    after: begin = null,
    page: limit = PAGE,
  }: { readonly after?: string | null; readonly page?: number } = {},
): AsyncGenerator<{ readonly key: string; readonly value: T }> {
  let after = begin;
  for (;;) {
    const page = await documents.list({ kind, limit, ...(after === null ? {} : { after }) });
    for (const { key, value } of page) yield { key, value: value as T };
    if (page.length < limit) return;
    after = page.at(-1)!.key;
  }
};
