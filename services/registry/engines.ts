/** Inference engines: what may be registered, found and deleted, over the documents of any store (docs/decisions/0015). */
import { createHash, randomUUID } from 'node:crypto';
import type { EngineVersion } from '../../shared/domain/engine.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import * as wire from '../../shared/wire/engines.ts';
import type { EngineJson, EngineVersionJson } from '../../shared/wire/engines-api.ts';
import { allDocuments, type Change, changeDocument } from './documents.ts';
import type { EngineClaim, EngineEntry, EngineRecord } from './engine-records.ts';
import * as records from './engine-records.ts';

/** All of them are counted when a new one is made. */
const ENGINES_MAX = 1000;
/** Of one engine: their names are in one document. */
const VERSIONS_MAX = 1000;
const REFUSALS: readonly string[] = ['engine_version_exists', 'invalid_engine'];

export type EngineName = { readonly project: string; readonly name: string };
/** `version`: one of its own, `default`, or null for the default. */
export type EngineReference = EngineName & { readonly version: string | null };

/** Members in one order, so that the same configuration is the same text. */
const digestOf = (value: unknown): string =>
  createHash('sha256')
    .update(
      JSON.stringify(value, (_key, member: unknown) =>
        typeof member === 'object' && member !== null && !Array.isArray(member)
          ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
          : member,
      ),
    )
    .digest('hex');

export class Engines {
  readonly #documents: Documents;

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  /** By project and name; `after` is `project/name` of the last one before. */
  async list(query: {
    readonly limit: number;
    readonly after: string | null;
    readonly project: string | null;
  }): Promise<readonly EngineJson[]> {
    const engines: EngineJson[] = [];
    for await (const { value } of allDocuments<EngineRecord>(this.#documents, 'engine', {
      after: query.after,
    })) {
      if (query.project !== null && value.project !== query.project) continue;
      engines.push(wire.presentEngine(records.engineOf(value)));
      if (engines.length === query.limit) break;
    }
    return engines;
  }

  async show(name: EngineName): Promise<EngineJson> {
    return wire.presentEngine(records.engineOf(await this.#record(name)));
  }

  /**
   * Takes a version in: its document first, under a key of its own, then its place in the engine. What is cut off in
   * between leaves a document that nothing names.
   * @throws SluiceError `invalid_engine`, `engine_version_exists`
   */
  async register(
    body: unknown,
    now: number,
  ): Promise<{ readonly isNew: boolean; readonly view: EngineVersionJson }> {
    const { project, name, version, isDefault, configuration } = wire.compileEngine(body);
    await this.#checkRoom({ project, name });
    const entry: EngineEntry = { version, id: randomUUID(), digest: digestOf(configuration) };
    const value: EngineVersion = { project, name, version, ...configuration, createdAt: now };
    const key = records.engineVersionKey(project, name, entry);
    await this.#documents.put({ kind: 'engine-version', key, revision: null, value });
    try {
      const isNew = await this.#takeIn({ project, name }, entry, isDefault, now);
      if (!isNew) await this.#drop({ project, name }, entry);
      return { isNew, view: await this.showVersion({ project, name, version }) };
    } catch (error) {
      // After any other error it may be in all the same, with its answer lost.
      const isRefused = error instanceof SluiceError && REFUSALS.includes(error.code);
      if (isRefused) await this.#drop({ project, name }, entry);
      throw error;
    }
  }

  async #checkRoom({ project, name }: EngineName): Promise<void> {
    if ((await this.#documents.get('engine', records.engineKey(project, name))) !== undefined) return;
    let count = 0;
    for await (const _ of allDocuments<EngineRecord>(this.#documents, 'engine')) count += 1;
    if (count < ENGINES_MAX) return;
    throw new SluiceError(
      'invalid_engine',
      `There are ${count} engines, and at most ${ENGINES_MAX}; delete some.`,
      { field: 'name' },
    );
  }

  /** False when the same was in already; it becomes the default then as well, where it says so. */
  #takeIn(name: EngineName, entry: EngineEntry, isDefault: boolean, now: number): Promise<boolean> {
    return this.#change(name, (found) => {
      const record = found ?? records.newEngine(name.project, name.name, now);
      const { version, digest } = entry;
      const before = record.entries.find((one) => one.version === version);
      if (before !== undefined && before.digest !== digest)
        throw new SluiceError(
          'engine_version_exists',
          `Version ${version} of the engine ${records.engineKey(record.project, record.name)} was registered with another configuration.`,
          { field: 'version' },
        );
      if (before === undefined && record.entries.length >= VERSIONS_MAX)
        throw new SluiceError(
          'invalid_engine',
          `${record.name} has ${VERSIONS_MAX} versions, the most that an engine may have; delete some.`,
          { field: 'version' },
        );
      // Written already, and its answer was lost.
      if (before?.id === entry.id) return { answer: true };
      const isNew = before === undefined;
      const isFirst = record.defaultVersion === null;
      const defaultVersion = isDefault || (isNew && isFirst) ? version : record.defaultVersion;
      if (!isNew && defaultVersion === record.defaultVersion) return { answer: false };
      const entries = isNew ? [...record.entries, entry] : record.entries;
      return { write: { ...record, entries, defaultVersion, updatedAt: now }, answer: isNew };
    });
  }

  /** @throws SluiceError `engine_not_found` */
  async showVersion(reference: EngineReference): Promise<EngineVersionJson> {
    const { record, engine } = await this.#find(reference);
    const { version } = engine;
    const users = records.engineUsers(record, version);
    return wire.presentEngineVersion(engine, record.defaultVersion === version, users);
  }

  /** @throws SluiceError `engine_not_found` */
  async find(reference: EngineReference): Promise<EngineVersion> {
    return (await this.#find(reference)).engine;
  }

  async #find(
    reference: EngineReference,
  ): Promise<{ readonly record: EngineRecord; readonly engine: EngineVersion }> {
    const record = await this.#record(reference);
    const entry = records.entryOf(record, reference.version);
    const key = records.engineVersionKey(record.project, record.name, entry);
    const found = await this.#documents.get('engine-version', key);
    // Deleted between the two readings.
    if (found === undefined) throw wire.noSuchEngineVersion(records.engineOf(record), reference.version);
    return { record, engine: found.value as EngineVersion };
  }

  /** @throws SluiceError `engine_not_found` */
  async setDefault(name: EngineName, body: unknown, now: number): Promise<EngineJson> {
    const wanted = wire.compileDefault(body);
    return this.#changeFound(name, (record) => {
      const { version } = records.entryOf(record, wanted);
      const write = { ...record, defaultVersion: version, updatedAt: now };
      return { write, answer: wire.presentEngine(records.engineOf(write)) };
    });
  }

  /** @throws SluiceError `engine_in_use` */
  async remove(name: EngineName): Promise<void> {
    const entries = await this.#changeFound(name, (record) => {
      records.refuseUsedEngine(record);
      return { write: null, answer: record.entries };
    });
    for (const entry of entries) await this.#drop(name, entry);
  }

  /** An engine without versions is gone as well. @throws SluiceError `engine_in_use` */
  async removeVersion(reference: EngineReference, now: number): Promise<void> {
    const entry = await this.#changeFound(reference, (record) => {
      const found = records.entryOf(record, reference.version);
      records.refuseUsedEngine(record, found.version);
      const entries = record.entries.filter(({ id }) => id !== found.id);
      const defaultVersion = record.defaultVersion === found.version ? null : record.defaultVersion;
      const write = entries.length === 0 ? null : { ...record, entries, defaultVersion, updatedAt: now };
      return { write, answer: found };
    });
    await this.#drop(reference, entry);
  }

  async #drop({ project, name }: EngineName, entry: EngineEntry): Promise<void> {
    const key = records.engineVersionKey(project, name, entry);
    await changeDocument(this.#documents, 'engine-version', key, () => ({ write: null, answer: null }));
  }

  /**
   * Marks the version as one that the group is about to run: from then on it is not deleted.
   * @returns it
   * @throws SluiceError `engine_not_found`
   */
  async claim(reference: EngineReference, claim: Omit<EngineClaim, 'version'>): Promise<EngineVersion> {
    const entry = await this.#changeFound(reference, (record) => {
      const found = records.entryOf(record, reference.version);
      const claims = [...record.claims, { ...claim, version: found.version }];
      return { write: { ...record, claims }, answer: found };
    });
    return this.find({ ...reference, version: entry.version });
  }

  /** Takes claims back; those that are gone already do no harm. */
  async release(name: EngineName, tokens: readonly string[]): Promise<void> {
    if (tokens.length === 0) return;
    await this.#change(name, (record) => {
      const kept = record?.claims.filter(({ token }) => !tokens.includes(token));
      if (record === undefined || kept?.length === record.claims.length) return { answer: null };
      return { write: { ...record, claims: kept! }, answer: null };
    });
  }

  async #record(name: EngineName): Promise<EngineRecord> {
    const found = await this.#documents.get('engine', this.#key(name));
    if (found === undefined) throw wire.engineNotFound(name.project, name.name);
    return found.value as EngineRecord;
  }

  #key({ project, name }: EngineName): string {
    if (wire.isEngineName(project) && wire.isEngineName(name)) return records.engineKey(project, name);
    throw wire.engineNotFound(project, name);
  }

  #change<A>(
    name: EngineName,
    decide: (record: EngineRecord | undefined) => Change<EngineRecord, A>,
  ): Promise<A> {
    return changeDocument(this.#documents, 'engine', this.#key(name), decide);
  }

  async #changeFound<A>(
    name: EngineName,
    decide: (record: EngineRecord) => Change<EngineRecord, A>,
  ): Promise<A> {
    return this.#change(name, (record) => {
      if (record === undefined) throw wire.engineNotFound(name.project, name.name);
      return decide(record);
    });
  }
}
