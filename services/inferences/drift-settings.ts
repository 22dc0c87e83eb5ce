/** What the drift routes do. Figures are computed elsewhere (drift-rounds.ts): within a second of new settings, then each minute. */
import type { DriftRecord } from '../../shared/domain/inference.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import { compileDrift, presentDrift } from '../../shared/wire/drift.ts';
import type { DriftJson } from '../../shared/wire/inference-api.ts';
import { GroupRecords } from '../scaling/group-records.ts';
import { findDrift, removeDrift, setDrift } from './drift-records.ts';
import { DRIFT_ROUND_MS, hastenDrift } from './drift-rounds.ts';
import { inferenceFiles } from './inference-files.ts';

export class DriftOfGroups {
  readonly #documents: Documents;
  readonly #groups: GroupRecords;

  constructor(documents: Documents) {
    this.#documents = documents;
    this.#groups = new GroupRecords(documents);
  }

  /** @throws SluiceError `scaling_group_not_found`, `invalid_drift` */
  async set(group: string, body: unknown, now: number): Promise<DriftJson> {
    const { current, next } = await this.#groups.read(group);
    const settings = compileDrift(body, now);
    const isSampled = [current, next].some((release) => release?.deployment.inferenceStore != null);
    await this.#checkRows(group, settings.reference, isSampled);
    const record = await setDrift(this.#documents, group, settings);
    await hastenDrift(this.#documents);
    return present(record, now);
  }

  async #checkRows(
    group: string,
    range: { readonly from: number; readonly until: number },
    isSampled: boolean,
  ): Promise<void> {
    for await (const { file } of inferenceFiles(this.#documents, { group, ...range, after: null }))
      if (file.rows > 0) return;
    const [from, until] = [range.from, range.until].map((at) => new Date(at).toISOString());
    throw new SluiceError(
      'invalid_drift',
      `reference is ${from} to ${until}, and no sampled rows of ${group} are there; ${isSampled ? listed(group) : unsampled(group)}`,
      { field: 'reference' },
    );
  }

  /** @throws SluiceError `scaling_group_not_found`, `drift_not_found` */
  async show(group: string, now: number): Promise<DriftJson> {
    await this.#groups.read(group);
    const record = await findDrift(this.#documents, group);
    if (record === undefined) throw notCompared(group);
    return present(record, now);
  }

  /** @throws SluiceError `scaling_group_not_found`, `drift_not_found` */
  async remove(group: string): Promise<void> {
    await this.#groups.read(group);
    if (!(await removeDrift(this.#documents, group))) throw notCompared(group);
  }
}

const listed = (group: string): string =>
  `GET /v1/scaling-groups/${group}/inference-files lists what is. A row is in a file after flush_ms of the deployment's ` +
  'inference_store at the latest.';

const unsampled = (group: string): string =>
  'the group has no inference store, so none is sampled. Give its deployment an inference_store ' +
  `(\`sluice groups update ${group} --inference-store\`), and a reference once rows are there.`;

const present = (record: DriftRecord, now: number): DriftJson =>
  presentDrift(record, record.figures === null ? now : record.figures.at + DRIFT_ROUND_MS);

const notCompared = (group: string): SluiceError =>
  new SluiceError('drift_not_found', `No reference is set for the scaling group ${group}.`, {
    field: 'name',
  });
