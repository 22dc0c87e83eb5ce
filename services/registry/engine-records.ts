/**
 * What the store keeps of an inference engine: one document that says which versions there are, which is the default and who
 * runs them, and one document for each version, under a key that no other registration ever has. As with models, a version
 * exists while its engine's document names it, so that registering, deleting and deploying cannot pass each other.
 */
import type { Engine } from '../../shared/domain/engine.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { isDefaultWord, noSuchEngineVersion } from '../../shared/wire/engines.ts';

/** A group runs the version, or is about to. */
export type EngineClaim = {
  readonly group: string;
  readonly version: string;
  readonly token: string;
  readonly at: number;
};

/** Where a version lies, and the digest of what it says. */
export type EngineEntry = { readonly version: string; readonly id: string; readonly digest: string };

export type EngineRecord = Omit<Engine, 'versions'> & {
  readonly entries: readonly EngineEntry[];
  readonly claims: readonly EngineClaim[];
};

export const engineKey = (project: string, name: string): string => `${project}/${name}`;
export const engineVersionKey = (project: string, name: string, { version, id }: EngineEntry): string =>
  `${engineKey(project, name)}/${version}/${id}`;

export const engineOf = ({ entries, claims: _, ...engine }: EngineRecord): Engine => ({
  ...engine,
  versions: entries.map(({ version }) => version),
});

export const newEngine = (project: string, name: string, now: number): EngineRecord => ({
  project,
  name,
  defaultVersion: null,
  entries: [],
  claims: [],
  createdAt: now,
  updatedAt: now,
});

/**
 * @param wanted a version, `default`, or null for the default
 * @throws SluiceError `engine_not_found`
 */
export const entryOf = (record: EngineRecord, wanted: string | null): EngineEntry => {
  const version = isDefaultWord(wanted) ? record.defaultVersion : wanted;
  const found = record.entries.find((entry) => entry.version === version);
  if (found === undefined) throw noSuchEngineVersion(engineOf(record), isDefaultWord(wanted) ? null : wanted);
  return found;
};

export const engineUsers = (record: EngineRecord, version?: string): readonly string[] => [
  ...new Set(
    record.claims.flatMap((claim) =>
      version === undefined || claim.version === version ? [claim.group] : [],
    ),
  ),
];

/** @throws SluiceError `engine_in_use` */
export const refuseUsedEngine = (record: EngineRecord, version?: string): void => {
  const groups = engineUsers(record, version).slice(0, 20);
  if (groups.length === 0) return;
  const engine = `the engine ${engineKey(record.project, record.name)}`;
  const what = version === undefined ? `A version of ${engine}` : `Version ${version} of ${engine}`;
  const names = groups.map((group) => JSON.stringify(group)).join(', ');
  throw new SluiceError('engine_in_use', `${what} runs in ${names}, or is about to.`, {
    scaling_groups: groups,
  });
};
