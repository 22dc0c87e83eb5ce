/** Models: what may be registered, found, changed and deleted, over the documents of any store. */
import { createHash } from 'node:crypto';
import type { ModelFile, ModelVersion } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import type { ComparisonJson, ModelJson, ModelVersionJson } from '../../shared/wire/model-api.ts';
import { MODEL_NAME } from '../../shared/wire/model-members.ts';
import * as wire from '../../shared/wire/models.ts';
import { allDocuments, type Change, changeDocument } from './documents.ts';
import { compareVersions } from './model-comparison.ts';
import type { ModelRecord } from './model-records.ts';
import * as records from './model-records.ts';

const MODELS_MAX = 10_000;
/**
 * All of them are read to be counted: once in this time by each thread, which adds those that it makes. Where there may
 * be more than this, each time.
 */
const COUNTED_MS = 10_000;
const COUNTED_MAX = 9000;
/** Of one model: their numbers are in one document. */
const VERSIONS_MAX = 10_000;
const ALIASES_MAX = 100;
/** Registrations that may come again, of one model, and for how long. */
const REQUESTS_MAX = 100;
const REQUEST_MS = 86_400_000;
/** Questions to the artifacts at once; a bucket answers one in milliseconds. */
const ARTIFACTS_ASKED_MAX = 16;

export type RegistrationRequest = {
  readonly name: string;
  readonly body: unknown;
  readonly apiKeyId: number;
  readonly idempotencyKey: string | null;
  readonly now: number;
};

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

export class Models {
  readonly #documents: Documents;
  readonly #artifacts: Pick<Artifacts, 'state'>;
  #counted = { count: 0, at: Number.NEGATIVE_INFINITY };

  constructor(documents: Documents, artifacts: Pick<Artifacts, 'state'>) {
    this.#documents = documents;
    this.#artifacts = artifacts;
  }

  async list(limit: number, after: string | null): Promise<readonly ModelJson[]> {
    const models: ModelJson[] = [];
    for await (const { value } of allDocuments<ModelRecord>(this.#documents, 'model', { after })) {
      if (value.deletedAt !== null) continue;
      models.push(wire.presentModel(value));
      if (models.length === limit) break;
    }
    return models;
  }

  async show(name: string): Promise<ModelJson> {
    return wire.presentModel(await this.record(name));
  }

  /** @throws SluiceError `model_not_found` */
  async record(name: string): Promise<ModelRecord> {
    if (!MODEL_NAME.test(name)) throw records.modelNotFound(name);
    const found = await this.#documents.get('model', name);
    return records.aliveModel(found?.value as ModelRecord | undefined, name);
  }

  /**
   * Takes a version in: its number first, then its document, then its place in the model. What is cut off in between
   * leaves a number that nothing has, and a document that nothing names.
   * @throws SluiceError `invalid_model`, `idempotency_mismatch`
   */
  async register(
    request: RegistrationRequest,
  ): Promise<{ readonly isNew: boolean; readonly view: ModelVersionJson }> {
    const { now } = request;
    const name = wire.compileModelName(request.name);
    const { aliases, ...registration } = wire.compileRegistration(request.body);
    await this.#checkArtifacts(registration.files, 'files');
    if (registration.image !== null && 'containerfile' in registration.image)
      await this.#checkArtifacts(registration.image.context, 'image.context');
    const known = this.#known(request, { ...registration, aliases });
    await this.#checkRoom(name, now);
    const number = await this.#takeNumber(name, aliases, known, now);
    const version: ModelVersion = { model: name, version: number, ...registration, createdAt: now };
    // It is there already where a registration with the same key was cut off here.
    const key = records.versionKey(name, number);
    await this.#documents.put({ kind: 'model-version', key, revision: null, value: version });
    const isNew = await this.#takeIn(name, number, aliases, now);
    return { isNew, view: await this.showVersion(name, String(number)) };
  }

  #known(
    request: RegistrationRequest,
    registration: wire.Registration,
  ): Omit<records.KnownRequest, 'version'> | null {
    const { idempotencyKey, apiKeyId, now } = request;
    if (idempotencyKey === null) return null;
    return {
      key: sha256(`${apiKeyId} ${idempotencyKey}`),
      body: sha256(JSON.stringify(registration)),
      at: now,
    };
  }

  async #checkRoom(name: string, now: number): Promise<void> {
    const found = await this.#documents.get('model', name);
    if (found !== undefined) return;
    if (this.#counted.count >= COUNTED_MAX || Math.abs(now - this.#counted.at) > COUNTED_MS)
      this.#counted = { count: await this.#count(), at: now };
    const { count } = this.#counted;
    this.#counted.count += 1;
    if (count < MODELS_MAX) return;
    throw new SluiceError(
      'invalid_model',
      `There are ${count} models, and at most ${MODELS_MAX}; delete some.`,
      {
        field: 'model',
      },
    );
  }

  async #count(): Promise<number> {
    let count = 0;
    for await (const { value } of allDocuments<ModelRecord>(this.#documents, 'model'))
      if (value.deletedAt === null) count += 1;
    return count;
  }

  async #checkArtifacts(files: readonly ModelFile[], where: string): Promise<void> {
    const queue = [...files.entries()];
    const check = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const [i, { digest, bytes }] = next;
        const { isComplete, bytes: stored } = await this.#artifacts.state(digest);
        const refuse = (field: string, text: string): never => {
          queue.length = 0;
          throw new SluiceError('invalid_model', text, { field: `${where}[${i}].${field}`, digest });
        };
        const at = `${where}[${i}]`;
        if (!isComplete)
          refuse(
            'digest',
            `${at}.digest is ${digest}, which is not uploaded, or not whole; send it with PATCH /v1/artifacts/${digest}.`,
          );
        if (stored !== bytes)
          refuse('bytes', `${at}.bytes is ${bytes}, and ${digest} has ${stored}; give the size of the file.`);
      }
    };
    await Promise.all(Array.from({ length: ARTIFACTS_ASKED_MAX }, check));
  }

  #takeNumber(
    name: string,
    aliases: readonly string[],
    known: Omit<records.KnownRequest, 'version'> | null,
    now: number,
  ): Promise<number> {
    return this.#change(name, (found) => {
      const record = found ?? records.newModel(name, now);
      const fresh = record.requests.filter(({ at }) => at > now - REQUEST_MS);
      const before = fresh.find(({ key }) => key === known?.key);
      if (before !== undefined && before.body !== known?.body)
        throw new SluiceError(
          'idempotency_mismatch',
          `The key was used for version ${before.version} of ${name}, which was registered with another body.`,
        );
      if (before !== undefined) return { answer: before.version };
      if (record.versions.length >= VERSIONS_MAX)
        throw new SluiceError(
          'invalid_model',
          `${name} has ${VERSIONS_MAX} versions, the most that a model may have; delete some.`,
          { field: 'model' },
        );
      const number = record.lastVersion + 1;
      this.#pointed(record, aliases, number);
      const requests =
        known === null ? fresh : [...fresh, { ...known, version: number }].slice(-REQUESTS_MAX);
      return { write: { ...record, lastVersion: number, requests, updatedAt: now }, answer: number };
    });
  }

  /** False when it was in already. */
  #takeIn(name: string, number: number, aliases: readonly string[], now: number): Promise<boolean> {
    return this.#change(name, (found) => {
      // A model that was deleted begins anew, but for its numbers.
      const isAlive = found !== undefined && found.deletedAt === null;
      const record = isAlive
        ? found
        : { ...records.newModel(name, now), lastVersion: found?.lastVersion ?? number };
      if (record.versions.includes(number)) return { answer: false };
      const versions = [...record.versions, number].sort((a, b) => a - b);
      const pointed = this.#pointed(record, aliases, number);
      return { write: { ...record, versions, aliases: pointed, updatedAt: now }, answer: true };
    });
  }

  #pointed(record: ModelRecord, aliases: readonly string[], number: number): ModelRecord['aliases'] {
    const pointed = { ...record.aliases, ...Object.fromEntries(aliases.map((alias) => [alias, number])) };
    if (Object.keys(pointed).length <= ALIASES_MAX) return pointed;
    throw new SluiceError(
      'invalid_model',
      `${record.name} would have more than ${ALIASES_MAX} aliases; remove some.`,
      {
        field: 'aliases',
      },
    );
  }

  async describe(name: string, body: unknown, now: number): Promise<ModelJson> {
    const patch = wire.compileModelPatch(body);
    return this.#changeAlive(name, (record) => {
      const write = { ...record, ...patch, updatedAt: now };
      return { write, answer: wire.presentModel(write) };
    });
  }

  /** @throws SluiceError `model_deployed` */
  async remove(name: string, now: number): Promise<void> {
    const versions = await this.#changeAlive(name, (record) => {
      records.refuseUsed(record);
      const write = { ...records.withoutVersions(record, () => true, now), requests: [], deletedAt: now };
      return { write, answer: record.versions };
    });
    for (const version of versions) await this.#dropVersion(name, version);
  }

  async versions(name: string, limit: number, after: number | null): Promise<readonly ModelVersionJson[]> {
    const record = await this.record(name);
    const wanted = record.versions.filter((version) => after === null || version < after).reverse();
    const shown: ModelVersionJson[] = [];
    // One after another: each may hold megabytes of source, which is let go at once.
    for (const number of wanted.slice(0, limit)) {
      const version = await this.#version(name, number);
      if (version !== undefined) shown.push(this.#present(record, version, false));
    }
    return shown;
  }

  async showVersion(name: string, wanted: string): Promise<ModelVersionJson> {
    const { record, version } = await this.find(name, wanted);
    return this.#present(record, version, true);
  }

  /** @throws SluiceError `model_not_found` */
  async find(
    name: string,
    wanted: unknown,
  ): Promise<{ readonly record: ModelRecord; readonly version: ModelVersion }> {
    const record = await this.record(name);
    const number = records.versionNumber(record, wire.versionReference(wanted), wanted);
    const version = await this.#version(name, number);
    // Deleted between the two readings.
    if (version === undefined) throw wire.noSuchVersion(name, wanted, 'it was deleted');
    return { record, version };
  }

  async #version(name: string, number: number): Promise<ModelVersion | undefined> {
    const found = await this.#documents.get('model-version', records.versionKey(name, number));
    return found?.value as ModelVersion | undefined;
  }

  #present(record: ModelRecord, version: ModelVersion, isWhole: boolean): ModelVersionJson {
    const { version: number } = version;
    return wire.presentVersion(
      version,
      records.aliasesOf(record, number),
      records.usersOf(record, number),
      isWhole,
    );
  }

  async updateVersion(name: string, wanted: string, body: unknown): Promise<ModelVersionJson> {
    const patch = wire.compileVersionPatch(body);
    const { record, version } = await this.find(name, wanted);
    const key = records.versionKey(name, version.version);
    const changed = await changeDocument<ModelVersion, ModelVersion>(
      this.#documents,
      'model-version',
      key,
      (found) => {
        if (found === undefined) throw wire.noSuchVersion(name, wanted, 'it was deleted');
        const write = { ...found, ...patch };
        return { write, answer: write };
      },
    );
    return this.#present(record, changed, true);
  }

  /** @throws SluiceError `model_deployed` */
  async removeVersion(name: string, wanted: string, now: number): Promise<void> {
    const number = await this.#changeAlive(name, (record) => {
      const version = records.versionNumber(record, wire.versionReference(wanted), wanted);
      records.refuseUsed(record, version);
      return { write: records.withoutVersions(record, (one) => one === version, now), answer: version };
    });
    await this.#dropVersion(name, number);
  }

  async #dropVersion(name: string, number: number): Promise<void> {
    const key = records.versionKey(name, number);
    await changeDocument(this.#documents, 'model-version', key, () => ({ write: null, answer: undefined }));
  }

  async compare(name: string, from: string, to: string): Promise<ComparisonJson> {
    const [a, b] = [await this.find(name, from), await this.find(name, to)];
    return compareVersions(
      this.#present(a.record, a.version, true),
      this.#present(b.record, b.version, true),
    );
  }

  async setAlias(name: string, alias: string, body: unknown, now: number): Promise<ModelJson> {
    const [word, number] = [wire.compileAlias(alias), wire.compileAliasTarget(body)];
    return this.#changeAlive(name, (record) => {
      const version = records.versionNumber(record, number, number);
      const write = { ...record, aliases: this.#pointed(record, [word], version), updatedAt: now };
      return { write, answer: wire.presentModel(write) };
    });
  }

  async removeAlias(name: string, alias: string, now: number): Promise<ModelJson> {
    return this.#changeAlive(name, (record) => {
      if (!Object.hasOwn(record.aliases, alias))
        throw new SluiceError(
          'model_not_found',
          `${name} has no alias ${JSON.stringify(alias.slice(0, 64))}.`,
          {
            field: 'alias',
          },
        );
      const { [alias]: _, ...aliases } = record.aliases;
      const write = { ...record, aliases, updatedAt: now };
      return { write, answer: wire.presentModel(write) };
    });
  }

  /**
   * Marks the version as one that the group is about to run: from then on it is not deleted.
   * @returns its number
   * @throws SluiceError `model_not_found`
   */
  async claim(name: string, wanted: unknown, claim: Omit<records.Claim, 'version'>): Promise<number> {
    return this.#changeAlive(name, (record) => {
      const version = records.versionNumber(record, wire.versionReference(wanted), wanted);
      return { write: { ...record, claims: [...record.claims, { ...claim, version }] }, answer: version };
    });
  }

  /** Takes claims back; those that are gone already do no harm. */
  async release(name: string, tokens: readonly string[]): Promise<void> {
    if (tokens.length === 0) return;
    await this.#change(name, (record) => {
      const kept = record?.claims.filter(({ token }) => !tokens.includes(token));
      if (record === undefined || kept?.length === record.claims.length) return { answer: undefined };
      return { write: { ...record, claims: kept! }, answer: undefined };
    });
  }

  #change<A>(name: string, decide: (record: ModelRecord | undefined) => Change<ModelRecord, A>): Promise<A> {
    return changeDocument(this.#documents, 'model', name, decide);
  }

  async #changeAlive<A>(name: string, decide: (record: ModelRecord) => Change<ModelRecord, A>): Promise<A> {
    if (!MODEL_NAME.test(name)) throw records.modelNotFound(name);
    return this.#change(name, (record) => decide(records.aliveModel(record, name)));
  }
}
