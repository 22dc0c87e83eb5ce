/** What the function routes do: deploy, show, update, pause, purge, repin, delete, logs. */
import type { FunctionRecord } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { FunctionUpdate } from '../../shared/store/ports/registry.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import type { FunctionJson, LogLineJson } from '../../shared/wire/api.ts';
import { presentFunction, presentLogLine } from '../../shared/wire/present.ts';
import { compileSpec, isContained, updatedBatching } from '../../shared/wire/spec.ts';
import type { Catalogue } from './catalogue.ts';

type Paused = (name: string, kind: 'paused' | 'resumed') => Promise<void>;

/** Functions of scaling groups are made and deleted by their groups alone. */
const GROUP_FUNCTION = /^model\.(.*)$/s;

export class Functions {
  readonly #store: Store;
  readonly #catalogue: Catalogue;
  readonly #changed: (name: string) => Promise<void>;
  readonly #paused: Paused;

  /**
   * @param changed returns when every thread has read the function again, so that what follows a deploy meets it everywhere
   * @param paused is told when a function was paused or resumed
   */
  constructor(store: Store, catalogue: Catalogue, changed: (name: string) => Promise<void>, paused: Paused) {
    this.#store = store;
    this.#catalogue = catalogue;
    this.#changed = changed;
    this.#paused = paused;
  }

  /** @throws SluiceError `invalid_function` */
  async deploy(spec: unknown): Promise<{ readonly created: boolean; readonly view: FunctionJson }> {
    const compiled = compileSpec(spec);
    const group = GROUP_FUNCTION.exec(compiled.name)?.[1];
    if (group !== undefined)
      throw new SluiceError(
        'invalid_function',
        `name is ${JSON.stringify(compiled.name)}; names that begin with "model." are given by scaling groups: PUT /v1/scaling-groups/${group}.`,
        { field: 'name' },
      );
    const { record, created } = await this.#store.registry.deploy({ now: Date.now(), spec: compiled });
    await this.#changed(record.name);
    return { created, view: await this.#view(record) };
  }

  async list(): Promise<readonly FunctionJson[]> {
    const { registry } = this.#store;
    const [records, load] = await Promise.all([registry.functions(), registry.load()]);
    const loads = new Map(load.map((entry) => [entry.functionName, entry]));
    const now = Date.now();
    const reports = await Promise.all(records.map(({ name }) => registry.reports({ now, name })));
    return records.map((record, i) => presentFunction(record, loads.get(record.name), reports[i]!, now));
  }

  async show(name: string): Promise<FunctionJson> {
    return this.#view(await this.#catalogue.read(name));
  }

  async update(name: string, patch: unknown): Promise<FunctionJson> {
    const record = await this.#catalogue.read(name);
    const { spec } = record.current;
    return this.#change(name, { batching: updatedBatching(spec.batching, patch, isContained(spec)) });
  }

  async pause(name: string, paused: boolean): Promise<FunctionJson> {
    const { paused: before } = await this.#catalogue.read(name);
    const view = await this.#change(name, { paused });
    if (before !== paused) await this.#paused(name, paused ? 'paused' : 'resumed');
    return view;
  }

  async #change(name: string, update: FunctionUpdate): Promise<FunctionJson> {
    const record = await this.#store.registry.update({ now: Date.now(), name, update });
    await this.#changed(name);
    return this.#view(record ?? (await this.#catalogue.read(name)));
  }

  async purge(name: string): Promise<{ readonly calls: number; readonly rows: number }> {
    await this.#catalogue.read(name);
    return this.#store.queue.cancel({ now: Date.now(), functionName: name });
  }

  async repin(name: string, from: string, to: string): Promise<{ readonly calls: number }> {
    const record = await this.#catalogue.read(name);
    for (const [field, digest] of [['from', from] as const, ['to', to] as const]) {
      if (record.versions.some((version) => version.digest === digest)) continue;
      const known = record.versions.map((version) => version.digest).join(', ');
      throw new SluiceError(
        'invalid_request',
        `${field} is ${JSON.stringify(digest)}; the versions of ${name} are ${known}.`,
        { field },
      );
    }
    return { calls: await this.#store.registry.repin({ now: Date.now(), name, from, to }) };
  }

  async remove(name: string): Promise<void> {
    const { current } = await this.#catalogue.read(name);
    const group = GROUP_FUNCTION.exec(name)?.[1];
    if (group !== undefined && current.spec.model != null)
      throw new SluiceError(
        'invalid_request',
        `${name} is the function of a scaling group; delete that with DELETE /v1/scaling-groups/${group}.`,
        { field: 'name' },
      );
    await this.#store.registry.remove(name);
    await this.#changed(name);
  }

  async logs(name: string, limit: number): Promise<readonly LogLineJson[]> {
    await this.#catalogue.read(name);
    return (await this.#store.registry.logs({ name, limit })).map(presentLogLine);
  }

  async #view(record: FunctionRecord): Promise<FunctionJson> {
    const { registry } = this.#store;
    const now = Date.now();
    const asked = [registry.loadOf(record.name), registry.reports({ now, name: record.name })] as const;
    const [load, reports] = await Promise.all(asked);
    return presentFunction(record, load, reports, now);
  }
}
