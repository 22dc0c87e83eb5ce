/** Functions as models of the Open Inference Protocol: their names, versions, readiness and metadata. */
import type { FunctionRecord, FunctionVersion } from '../../../shared/domain/function.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { outputFields, tensorMetadata } from '../../../shared/wire/oip/index.ts';
import { modelFunction } from '../../registry/model-function.ts';
import type { Room } from '../room.ts';

export const EXTENSIONS: readonly string[] = ['binary_tensor_data'];

export type ModelMetadata = {
  readonly name: string;
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly ReturnType<typeof tensorMetadata>[];
  readonly outputs: readonly ReturnType<typeof tensorMetadata>[];
};

export type IndexEntry = {
  readonly name: string;
  readonly version: string;
  readonly state: 'READY' | 'UNAVAILABLE';
  readonly reason: string;
};

/** @throws SluiceError `function_not_found` */
export const modelOf = ({ catalogue }: Room, name: string): Promise<FunctionRecord> =>
  modelFunction(catalogue, name, 'name');

/** What clients call a version: the number of the model version that it serves, else its digest. */
export const versionName = ({ digest, spec }: FunctionVersion): string =>
  spec.model == null ? digest : String(spec.model.version);

/** '' and null: the current one. @throws SluiceError `function_not_found` naming those that are there */
export const versionOf = (record: FunctionRecord, wanted: string | null): FunctionVersion => {
  if (wanted === null || wanted === '') return record.current;
  const named = (one: FunctionVersion): boolean => one.digest === wanted || versionName(one) === wanted;
  const found = named(record.current) ? record.current : record.versions.findLast(named);
  if (found !== undefined) return found;
  const shown = JSON.stringify(wanted.slice(0, 64));
  const known = [...new Set(record.versions.map(versionName))];
  throw new SluiceError(
    'function_not_found',
    `${record.name} has no version ${shown}; there ${known.length === 1 ? 'is' : 'are'} ${known.join(', ')}.`,
    { field: 'version' },
  );
};

/** New calls go to the current version alone. @throws SluiceError `function_not_found` */
export const currentOf = (record: FunctionRecord, wanted: string | null): FunctionVersion => {
  const version = versionOf(record, wanted);
  if (version.id === record.current.id) return version;
  throw new SluiceError(
    'function_not_found',
    `Version ${versionName(version)} of ${record.name} takes no calls any more; the current one is ${versionName(record.current)}.`,
    { field: 'version' },
  );
};

/** `asked`: the name that the client knows it by. */
export const modelMetadata = (
  asked: string,
  record: FunctionRecord,
  version: FunctionVersion,
): ModelMetadata => ({
  name: asked,
  versions: [...new Set(record.versions.map(versionName))],
  platform: `sluice_${version.spec.runtime}`,
  inputs: (version.spec.inputs ?? []).map(tensorMetadata),
  outputs: outputFields(version.spec.output).map(tensorMetadata),
});

/** null: it takes calls and something runs them; else why not. One that is scaled to zero starts with the first call. */
export const whyNotReady = async (
  { store, state }: Room,
  record: FunctionRecord,
  version: FunctionVersion,
): Promise<string | null> => {
  if (state.isDraining || state.isLeaving) return 'the server is shutting down';
  if (record.paused) return 'it is paused';
  if (version.id !== record.current.id) return 'it is not the current version';
  const reports = await store.registry.reports({ now: Date.now(), name: record.name });
  const own = reports.filter(({ versionId }) => versionId === version.id);
  if (own.some(({ ready }) => ready > 0)) return null;
  const reason = own.find((report) => report.reason !== null)?.reason;
  if (reason != null) return reason;
  const isOnDemand = record.scaling?.minReplicas === 0 && own.every(({ failed }) => failed === 0);
  return isOnDemand ? null : 'no replica is ready yet';
};

export const modelIndex = async (room: Room, readyOnly: boolean): Promise<readonly IndexEntry[]> => {
  const entries = await Promise.all(
    room.catalogue.all().map(async (record): Promise<IndexEntry> => {
      const reason = await whyNotReady(room, record, record.current);
      return {
        name: record.name,
        version: versionName(record.current),
        state: reason === null ? 'READY' : 'UNAVAILABLE',
        reason: reason ?? '',
      };
    }),
  );
  return entries
    .filter(({ state }) => !readyOnly || state === 'READY')
    .sort((a, b) => (a.name < b.name ? -1 : 1));
};
