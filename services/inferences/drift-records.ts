/** The documents `drift/GROUP`: what a group's figures compare, and the last figures. */
import { isDeepStrictEqual } from 'node:util';
import type { DriftFigures, DriftRecord, DriftSettings } from '../../shared/domain/inference.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { allDocuments, changeDocument } from '../registry/documents.ts';

/** Figures of many columns are some kilobytes. */
const PAGE = 50;

export type ComparedGroup = Pick<DriftRecord, 'group' | 'settings'>;

/** Figures of other settings say nothing of these. */
export const setDrift = (
  documents: Documents,
  group: string,
  settings: DriftSettings,
): Promise<DriftRecord> =>
  changeDocument<DriftRecord, DriftRecord>(documents, 'drift', group, (record) => {
    if (record !== undefined && isDeepStrictEqual(record.settings, settings)) return { answer: record };
    const write = { group, settings, figures: null };
    return { write, answer: write };
  });

export const findDrift = async (documents: Documents, group: string): Promise<DriftRecord | undefined> =>
  (await documents.get('drift', group))?.value as DriftRecord | undefined;

/** @returns whether there was one */
export const removeDrift = (documents: Documents, group: string): Promise<boolean> =>
  changeDocument<DriftRecord, boolean>(documents, 'drift', group, (record) => ({
    write: null,
    answer: record !== undefined,
  }));

/** Not where the settings have changed, or went, while the figures were computed. */
export const noteFigures = (
  documents: Documents,
  { group, settings }: ComparedGroup,
  figures: DriftFigures,
): Promise<boolean> =>
  changeDocument<DriftRecord, boolean>(documents, 'drift', group, (record) =>
    record !== undefined && isDeepStrictEqual(record.settings, settings)
      ? { write: { ...record, figures }, answer: true }
      : { answer: false },
  );

export async function* driftRecords(documents: Documents): AsyncGenerator<DriftRecord> {
  for await (const { value } of allDocuments<DriftRecord>(documents, 'drift', { page: PAGE })) yield value;
}
