/**
 * What the store keeps of a model: one document that says which versions there are, what points to them and who runs them,
 * and one document for each version. A version exists while its model's document names it: taking it in and taking it away
 * are each one change of that document, so that deleting, deploying and registering cannot pass each other.
 */

import type { Model } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { noSuchVersion, type VersionReference } from '../../shared/wire/models.ts';

/** A group runs the version, or is about to. The token is one deployment's own, so that nobody takes back another's. */
export type Claim = {
  readonly group: string;
  readonly version: number;
  readonly token: string;
  readonly at: number;
};

/** A registration that may come again: its key and body as digests. */
export type KnownRequest = {
  readonly key: string;
  readonly body: string;
  readonly version: number;
  readonly at: number;
};

export type ModelRecord = Model & {
  /** Taken numbers are never given again, also not after the model was deleted: a number means one thing for ever. */
  readonly lastVersion: number;
  readonly claims: readonly Claim[];
  readonly requests: readonly KnownRequest[];
  /** A deleted model is remembered for its numbers. */
  readonly deletedAt: number | null;
};

export const modelNotFound = (name: string): SluiceError =>
  new SluiceError('model_not_found', `There is no model ${JSON.stringify(name.slice(0, 100))}.`, {
    field: 'model',
  });

export const newModel = (name: string, now: number): ModelRecord => ({
  name,
  description: '',
  versions: [],
  aliases: {},
  createdAt: now,
  updatedAt: now,
  lastVersion: 0,
  claims: [],
  requests: [],
  deletedAt: null,
});

/** @throws SluiceError `model_not_found` */
export const aliveModel = (record: ModelRecord | undefined, name: string): ModelRecord => {
  if (record === undefined || record.deletedAt !== null) throw modelNotFound(name);
  return record;
};

/**
 * The number that a reference stands for now.
 * @param wanted as it was asked for, for the message
 * @throws SluiceError `model_not_found`
 */
export const versionNumber = (
  record: ModelRecord,
  reference: VersionReference | null,
  wanted: unknown,
): number => {
  const { versions, aliases, name } = record;
  let found: number | undefined;
  if (reference === 'latest') found = versions.at(-1);
  else if (typeof reference === 'number') found = versions.includes(reference) ? reference : undefined;
  else if (reference !== null && Object.hasOwn(aliases, reference.alias)) found = aliases[reference.alias];
  if (found !== undefined) return found;
  const shown = versions.slice(-20).join(', ');
  const known =
    versions.length === 0 ? 'there are none' : `there ${versions.length === 1 ? 'is' : 'are'} ${shown}`;
  const names = Object.keys(aliases).slice(0, 20).join(', ');
  throw noSuchVersion(
    name,
    wanted ?? 'latest',
    `${known}${names === '' ? '' : `, and the aliases ${names}`}`,
  );
};

export const aliasesOf = (record: ModelRecord, version: number): readonly string[] =>
  Object.entries(record.aliases).flatMap(([alias, number]) => (number === version ? [alias] : []));

export const usersOf = (record: ModelRecord, version?: number): readonly string[] => [
  ...new Set(
    record.claims.flatMap((claim) =>
      version === undefined || claim.version === version ? [claim.group] : [],
    ),
  ),
];

/** @throws SluiceError `model_deployed` */
export const refuseUsed = (record: ModelRecord, version?: number): void => {
  const groups = usersOf(record, version);
  if (groups.length === 0) return;
  const what = version === undefined ? `A version of ${record.name}` : `Version ${version} of ${record.name}`;
  throw new SluiceError(
    'model_deployed',
    `${what} runs in ${groups
      .slice(0, 20)
      .map((group) => JSON.stringify(group))
      .join(', ')}, or is about to.`,
    { scaling_groups: groups.slice(0, 20) },
  );
};

/** Without these versions, and without what points to them. */
export const withoutVersions = (
  record: ModelRecord,
  gone: (version: number) => boolean,
  now: number,
): ModelRecord => ({
  ...record,
  versions: record.versions.filter((version) => !gone(version)),
  aliases: Object.fromEntries(Object.entries(record.aliases).filter(([, version]) => !gone(version))),
  requests: record.requests.filter(({ version }) => !gone(version)),
  updatedAt: now,
});

/** Ten digits, so that keys sort as numbers do. */
export const versionKey = (model: string, version: number): string =>
  `${model}/${String(version).padStart(10, '0')}`;
