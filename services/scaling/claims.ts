/** What a group claims of the registry before it runs it, so that it is not deleted: a model version, and an engine version. */
import type { EngineVersion } from '../../shared/domain/engine.ts';
import type { ModelVersion } from '../../shared/domain/model.ts';
import type { Deployment } from '../../shared/wire/scaling-groups.ts';
import type { Engines } from '../registry/engines.ts';
import type { Models } from '../registry/models.ts';
import type { Release } from './group-records.ts';

/** What a group's function is made from. */
export type Ingredients = { readonly version: ModelVersion; readonly engine: EngineVersion | null };

/** Versions as they are wanted: as the deployment names them, or those that ran before. */
export type Wanted = {
  readonly deployment: Deployment;
  readonly version: unknown;
  /** null: as the deployment names it. */
  readonly engineVersion: string | null;
};

type Named = Pick<Release, 'model' | 'version' | 'deployment' | 'engine'>;

export class Claims {
  readonly #models: Models;
  readonly #engines: Engines;

  constructor(models: Models, engines: Engines) {
    this.#models = models;
    this.#engines = engines;
  }

  /** @throws SluiceError `model_not_found`, `engine_not_found` */
  async take({ deployment, version, engineVersion }: Wanted, group: string, token: string, at: number) {
    const { model, engine: selector } = deployment;
    const claim = { group, token, at };
    const number = await this.#models.claim(model, version, claim);
    try {
      const engine =
        selector == null
          ? null
          : await this.#engines.claim({ ...selector, version: engineVersion ?? selector.version }, claim);
      const found = await this.#models.find(model, number);
      return { version: found.version, engine } satisfies Ingredients;
    } catch (error) {
      await this.free({ model, token, engine: selector ?? null });
      throw error;
    }
  }

  /** What a release that was claimed is made from. */
  async read({ model, version, engine }: Named): Promise<Ingredients> {
    const found = await this.#models.find(model, version);
    return { version: found.version, engine: engine == null ? null : await this.#engines.find(engine) };
  }

  /** Gives claims back; those that are gone already do no harm. */
  async free(release: {
    readonly model: string;
    readonly token: string;
    readonly engine?: { readonly project: string; readonly name: string } | null;
  }): Promise<void> {
    await this.#models.release(release.model, [release.token]);
    if (release.engine != null) await this.#engines.release(release.engine, [release.token]);
  }
}
