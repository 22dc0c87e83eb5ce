/** The look at load and replicas, each second, of the functions whose number of replicas may change by itself. */
import type { Log } from '../shared/runtime/log.ts';
import { metrics } from '../shared/runtime/metrics.ts';
import type { FunctionLoad, Registry } from '../shared/store/ports/registry.ts';
import type { Entry } from './version-entry.ts';

export type RoundsOptions = {
  readonly registry: Registry;
  /** One process owns the store: there are no other workers whose reports count. */
  readonly isAlone: boolean;
  readonly log: Log;
};

/** Versions that may get another number of replicas here, unless something else decides. */
const isScaled = ({ role, refusal, backend, scaling }: Entry): boolean =>
  refusal === null &&
  !backend.follow &&
  (role === 'staged' ? scaling.isShared : role === 'current' && scaling.isWatched);

export class ScalingRounds {
  readonly #options: RoundsOptions;

  constructor(options: RoundsOptions) {
    this.#options = options;
  }

  /** Decides for each; `apply` is called for every one of them, changed or not. */
  async look(entries: Iterable<Entry>, apply: (entry: Entry) => Promise<void>): Promise<void> {
    const scaled = [...entries].filter(isScaled);
    if (scaled.length === 0) return;
    const loads = new Map((await this.#options.registry.load()).map((load) => [load.functionName, load]));
    await Promise.all(
      scaled.map(async (entry) => {
        await this.see(entry);
        if (entry.role === 'current') this.#decide(entry, loads.get(entry.runner.version.spec.name));
        await apply(entry);
      }),
    );
  }

  /** Reads who else can run the function. */
  async see({ runner, scaling }: Entry): Promise<void> {
    const { registry, isAlone } = this.#options;
    if (isAlone && !scaling.isShared) return;
    scaling.see(await registry.reports({ now: Date.now(), name: runner.version.spec.name }));
  }

  #decide({ runner, scaling }: Entry, load: FunctionLoad | undefined): void {
    const { version, lastBatchAt } = runner;
    const { name } = version.spec;
    const before = scaling.total;
    const own = { versionId: version.id, facts: runner.facts(), lastBatchAt };
    const { replicas, cause } = scaling.decide(load, own, Date.now());
    metrics.replicasWanted.labels(name).set(scaling.goal(version.id));
    // Told by one worker only: all of them decide alike.
    if (replicas === before || !scaling.isFirst(version.id)) return;
    metrics.scalingDecisions.labels(name, replicas > before ? 'up' : 'down', cause).inc();
    this.#options.log.info({ function: name, from: before, to: replicas, cause }, 'replicas wanted');
  }
}
