/** What of engines goes by itself: claims of deployments that were cut off, and documents of versions that no engine names. */
import type { EngineVersion } from '../../shared/domain/engine.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { allDocuments, changeDocument } from './documents.ts';
import { type EngineClaim, type EngineRecord, engineVersionKey } from './engine-records.ts';

export type EngineSweepQuery = {
  readonly documents: Documents;
  /** Claims that groups hold. */
  readonly tokens: ReadonlySet<string>;
  readonly now: number;
  /** Younger ones may still come to be named. */
  readonly claimMs: number;
  readonly unreferencedMs: number;
};

export const sweepEngines = async (query: EngineSweepQuery): Promise<void> => {
  const { documents, tokens, now, claimMs, unreferencedMs } = query;
  const isHeld = ({ token, at }: EngineClaim): boolean => tokens.has(token) || now - at < claimMs;
  const named = new Set<string>();
  for await (const { key, value } of allDocuments<EngineRecord>(documents, 'engine')) {
    for (const entry of value.entries) named.add(engineVersionKey(value.project, value.name, entry));
    if (value.claims.every(isHeld)) continue;
    await changeDocument<EngineRecord, null>(documents, 'engine', key, (record) =>
      record === undefined
        ? { answer: null }
        : { write: { ...record, claims: record.claims.filter(isHeld) }, answer: null },
    );
  }
  for await (const { key, value } of allDocuments<EngineVersion>(documents, 'engine-version')) {
    if (named.has(key) || now - value.createdAt < unreferencedMs) continue;
    await changeDocument(documents, 'engine-version', key, () => ({ write: null, answer: null }));
  }
};
