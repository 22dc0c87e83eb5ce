/**
 * The functions as one ingress thread knows them: read at the start, kept current by the store's `functions` event. A
 * name that is not known is looked up once more, since the caller may have deployed it through another thread just now.
 */
import type { FunctionRecord, FunctionVersion } from '../../shared/domain/function.ts';
import { functionNameOf } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Unwatch } from '../../shared/store/ports/queue.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { MODEL_NAME } from '../../shared/wire/model-members.ts';

/** On a store of many processes a notification may be lost: what changed is known by then all the same. */
const REREAD_MS = 30_000;
/** Versions of deleted functions whose finished calls were read lately. */
const FORGOTTEN_MAX = 1000;

export class Catalogue {
  readonly #store: Store;
  readonly #log: Log;
  #records = new Map<string, FunctionRecord>();
  #versions = new Map<number, FunctionVersion>();
  /** Above it, versions of deleted functions are forgotten. */
  #versionsMax = FORGOTTEN_MAX;
  #unwatch: Unwatch | null = null;
  #rereading: NodeJS.Timeout | null = null;

  constructor(store: Store, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  async start(): Promise<void> {
    this.#unwatch = this.#store.queue.watch({ kind: 'functions' }, ({ name }) => {
      this.refresh(name).catch((error: unknown) => {
        this.#log.error({ err: error, function: name }, 'a changed function could not be read');
      });
    });
    await this.#readAll();
    if (this.#store.coordination.exclusive) return;
    this.#rereading = setInterval(() => {
      this.#readAll().catch((error: unknown) => {
        this.#log.warn({ err: error }, 'the functions could not be read; trying again');
      });
    }, REREAD_MS);
  }

  stop(): void {
    this.#unwatch?.();
    this.#unwatch = null;
    if (this.#rereading !== null) clearInterval(this.#rereading);
  }

  async #readAll(): Promise<void> {
    const records = await this.#store.registry.functions();
    const names = new Set(records.map(({ name }) => name));
    for (const name of this.#records.keys()) if (!names.has(name)) this.#records.delete(name);
    for (const record of records) this.#keep(record);
  }

  /** What this thread knows without asking; undefined is not yet a 404. */
  known(name: string): FunctionRecord | undefined {
    return this.#records.get(name);
  }

  all(): readonly FunctionRecord[] {
    return [...this.#records.values()];
  }

  /** @throws SluiceError `function_not_found` */
  async find(name: string): Promise<FunctionRecord> {
    return this.#records.get(name) ?? this.read(name);
  }

  /**
   * Read from the store, for who is about to change it.
   * @throws SluiceError `function_not_found`
   */
  async read(name: string): Promise<FunctionRecord> {
    const record = await this.refresh(name);
    if (record === undefined) {
      const missing = `There is no function ${JSON.stringify(name.slice(0, 128))}`;
      const served = await this.#functionOfGroup(name);
      if (served === null) throw new SluiceError('function_not_found', `${missing}.`, { field: 'name' });
      throw new SluiceError(
        'function_not_found',
        `${missing}; there is a scaling group of this name, called as ${served}.`,
        { field: 'name', fix: 'Use that name, or list with `sluice functions`.' },
      );
    }
    return record;
  }

  /** Who names a group means its function. null: there is no such group. Only names that a group may have go to the store. */
  async #functionOfGroup(name: string): Promise<string | null> {
    if (!MODEL_NAME.test(name)) return null;
    const served = functionNameOf(name);
    const found = this.#records.get(served) ?? (await this.refresh(served));
    return found === undefined ? null : served;
  }

  /** The version that a call was admitted with; undefined when its function is deleted. */
  async version(functionName: string, versionId: number): Promise<FunctionVersion | undefined> {
    const known = this.#versions.get(versionId);
    if (known !== undefined) return known;
    await this.refresh(functionName);
    return this.#versions.get(versionId);
  }

  /** What the store says now; other threads change functions too. */
  async refresh(name: string): Promise<FunctionRecord | undefined> {
    const record = await this.#store.registry.function(name);
    if (record === undefined) this.#records.delete(name);
    else this.#keep(record);
    return record;
  }

  /** An answer that is older than what is known (two reads crossed) is dropped. */
  #keep(record: FunctionRecord): void {
    const before = this.#records.get(record.name);
    if (before?.id === record.id && before.updatedAt > record.updatedAt) return;
    this.#records.set(record.name, record);
    // The number of a version that went may be another one's later.
    if (before?.id === record.id) for (const { id } of before.versions) this.#versions.delete(id);
    for (const version of record.versions) this.#versions.set(version.id, version);
    if (this.#versions.size > this.#versionsMax) this.#forget();
  }

  #forget(): void {
    const alive = new Map<number, FunctionVersion>();
    for (const record of this.#records.values()) {
      for (const version of record.versions) alive.set(version.id, version);
    }
    this.#versions = alive;
    this.#versionsMax = alive.size + FORGOTTEN_MAX;
  }
}
