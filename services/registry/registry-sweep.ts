/**
 * What nothing refers to any more goes: superseded versions of functions, artifacts a day after they came, documents of versions
 * that no model names, claims of deployments that were cut off, and the numbers of models that were deleted long ago. Once an hour, in one of the
 * buffer processes: the first that notes it in the store.
 */
import type { FunctionRecord, FunctionVersion } from '../../shared/domain/function.ts';
import type { Digest, ModelFile, ModelImage, ModelVersion } from '../../shared/domain/model.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { RepeatedWork } from '../../shared/runtime/repeated-work.ts';
import type { Service } from '../../shared/runtime/service.ts';
import { type Swept, sweepUnreferenced } from '../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { allDocuments, changeDocument } from './documents.ts';
import { sweepEngines } from './engine-sweep.ts';
import { type ModelRecord, versionKey } from './model-records.ts';
import { takeSweepTurn } from './sweep-turn.ts';
import { sweepVersions } from './version-sweep.ts';

const SWEEP_MS = 3_600_000;
/** How often a process looks whether it is time. */
const LOOK_MS = 600_000;
/** An upload, and the registration that names it, are done by then. */
const UNREFERENCED_MS = 86_400_000;
/** A deployment names its claim in its group's document within seconds. */
const CLAIM_MS = 3_600_000;
/** As long as somebody may still mean a version of it. */
const DELETED_MS = 30 * 86_400_000;
/** Each may hold megabytes of source. */
const VERSIONS_READ_MAX = 4;

/** What other rooms keep: claims that groups hold, versions of their functions, and images that their deployments bring. */
export type Holdings = {
  readonly tokens: ReadonlySet<string>;
  readonly digests: ReadonlySet<string>;
  readonly images: readonly ModelImage[];
};

export type RegistrySweepOptions = {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly holdings: () => Promise<Holdings>;
  /** Of other rooms, artifact by artifact: there may be many. */
  readonly digests?: () => AsyncIterable<Digest>;
  readonly log: Log;
  readonly wall: () => number;
};

export class RegistrySweep implements Service {
  readonly #options: RegistrySweepOptions;
  readonly #looks: RepeatedWork;

  constructor(options: RegistrySweepOptions) {
    this.#options = options;
    this.#looks = new RepeatedWork({
      everyMs: LOOK_MS,
      work: () => this.sweep(),
      onError: (err) => options.log.error({ err }, 'the registry could not be swept; trying again'),
    });
  }

  start(): Promise<void> {
    return this.#looks.start();
  }

  stop(): Promise<void> {
    return this.#looks.stop();
  }

  /** null: another one has done it within the hour. */
  async sweep(): Promise<Swept | null> {
    const { store, artifacts, holdings, log, wall } = this.#options;
    const now = wall();
    if (!(await takeSweepTurn(store.documents, 'registry', { now, everyMs: SWEEP_MS }))) return null;
    const held = await holdings();
    const versions = await sweepVersions({ registry: store.registry, kept: held.digests, now });
    if (versions > 0) log.info({ versions }, 'superseded versions of functions went');
    await this.#sweepModels(held, now);
    await sweepEngines({
      ...{ documents: store.documents, tokens: held.tokens, now },
      ...{ claimMs: CLAIM_MS, unreferencedMs: UNREFERENCED_MS },
    });
    let referenced: ReadonlySet<Digest> | null = null;
    const isReferenced = async (digest: Digest): Promise<boolean> => {
      referenced ??= await this.#referenced();
      return referenced.has(digest);
    };
    const swept = await sweepUnreferenced(artifacts, isReferenced, UNREFERENCED_MS, now);
    if (swept.artifacts > 0) log.info(swept, 'artifacts went that nothing referred to');
    return swept;
  }

  async #sweepModels({ tokens }: Holdings, now: number): Promise<void> {
    const { documents } = this.#options.store;
    const named = new Set<string>();
    for await (const { key, value } of allDocuments<ModelRecord>(documents, 'model')) {
      for (const version of value.versions) named.add(versionKey(value.name, version));
      const isForgotten = value.deletedAt !== null && now - value.deletedAt > DELETED_MS;
      const isHeld = (claim: ModelRecord['claims'][number]): boolean =>
        tokens.has(claim.token) || now - claim.at < CLAIM_MS;
      if (!isForgotten && value.claims.every(isHeld)) continue;
      await changeDocument<ModelRecord, null>(documents, 'model', key, (record) => {
        if (record === undefined) return { answer: null };
        const write = { ...record, claims: record.claims.filter(isHeld) };
        return { write: isForgotten && record.deletedAt === value.deletedAt ? null : write, answer: null };
      });
    }
    for await (const { key, value } of this.#versions()) {
      if (named.has(key) || now - value.createdAt < UNREFERENCED_MS) continue;
      await changeDocument(documents, 'model-version', key, () => ({ write: null, answer: null }));
    }
  }

  #versions() {
    return allDocuments<ModelVersion>(this.#options.store.documents, 'model-version', {
      page: VERSIONS_READ_MAX,
    });
  }

  async #referenced(): Promise<ReadonlySet<Digest>> {
    const digests = new Set<Digest>();
    const add = (files: readonly ModelFile[]): void => {
      for (const { digest } of files) digests.add(digest);
    };
    const addImage = (image: ModelImage | null | undefined): void => {
      if (image != null && 'context' in image) add(image.context);
    };
    for await (const { value } of this.#versions()) {
      add(value.files);
      addImage(value.image);
    }
    for (const image of (await this.#options.holdings()).images) addImage(image);
    for await (const digest of this.#options.digests?.() ?? []) digests.add(digest);
    for (const record of await this.#options.store.registry.functions()) {
      for (const version of record.versions) {
        const { model, container } = version.spec;
        if ((model ?? container) == null || !(await this.#isNeeded(record, version))) continue;
        add(model?.files ?? []);
        addImage(container?.image);
      }
    }
    return digests;
  }

  /** A version whose calls are not finished starts its replicas again when they end. */
  async #isNeeded(record: FunctionRecord, { id }: FunctionVersion): Promise<boolean> {
    if (id === record.current.id || id === record.staged?.id) return true;
    const { registry, queue } = this.#options.store;
    const reports = await registry.reports({ now: this.#options.wall(), name: record.name });
    if (reports.some(({ versionId }) => versionId === id)) return true;
    return (await queue.open({ versionId: id, after: 0, limit: 1 })).calls.length > 0;
  }
}
